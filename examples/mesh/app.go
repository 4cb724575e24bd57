package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/podplumb/podplumb/examples/internal/run"
)

// passedOn are the headers that an application has to pass on, so that what it sends can be told to belong to what it got.
var passedOn = []string{"Traceparent", "Tracestate", "B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Sampled", "X-B3-Flags", "Baggage", "X-Version"}

// runApp is an application of the demo: it answers with its name, and with the answer of the next one that it asks. It knows
// nothing of a mesh.
func runApp(ctx context.Context, args []string, _, stderr io.Writer) int {
	flags := flag.NewFlagSet("mesh app", flag.ContinueOnError)
	name := flags.String("name", "app", "what it calls itself")
	address := flags.String("listen", ":8080", "where it listens")
	next := flags.String("next", "", "URL that it asks for each request")
	if code, ok := run.Parse(flags, args, stderr); !ok {
		return code
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", *address)
	if err != nil {
		return run.Explain(ctx, stderr, "mesh app", err)
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: answering(*name, *next, http.DefaultClient)}
	go func() { // whoever started it holds the other end
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return run.Explain(ctx, stderr, "mesh app", err)
	}
	return run.Proved
}

// answering is the application.
func answering(name, next string, client *http.Client) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := name
		if next != "" {
			said, err := askNext(client, r, next)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			answer += " < " + said
		}
		_, _ = io.WriteString(w, answer)
	})
}

func askNext(client *http.Client, r *http.Request, url string) (string, error) {
	ask, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url+r.URL.RequestURI(), nil)
	if err != nil {
		return "", err
	}
	for _, h := range passedOn {
		if v := r.Header.Values(h); len(v) > 0 {
			ask.Header[h] = v
		}
	}
	response, err := client.Do(ask)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, said)
	}
	return string(said), err
}
