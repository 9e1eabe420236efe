//go:build tools

// Package tools pins the command that the tests build; nothing imports it.
package tools

import _ "go.etcd.io/etcd/server/v3"
