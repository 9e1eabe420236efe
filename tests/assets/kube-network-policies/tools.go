//go:build tools

// Package tools pins the commands that the tests build; nothing imports it.
package tools

import _ "sigs.k8s.io/kube-network-policies/cmd"
