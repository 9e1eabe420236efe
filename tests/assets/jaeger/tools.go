//go:build tools

// Package tools pins the command that the tests build; nothing imports it.
package tools

import _ "github.com/jaegertracing/jaeger/cmd/all-in-one"
