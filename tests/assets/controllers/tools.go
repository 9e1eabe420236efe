//go:build tools

// Package tools pins the commands that the tests build; nothing imports it.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
)
