package bench_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// This test binary is also the backend and the load generator, each a process of its own, so that they can be pinned.
const (
	roleVariable = "PODPLUMB_BENCH_ROLE"
	roleBackend  = "backend"
	roleLoad     = "load"
)

const (
	host        = "shop.example"
	connections = 32
	bodySize    = 1024
)

// backend answers every request with the same kilobyte, and prints its address.
func backend() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends with the one who started it
		os.Exit(0)
	}()
	body := bytes.Repeat([]byte("x"), bodySize)
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", strconv.Itoa(bodySize))
		_, _ = w.Write(body)
	}))
}

// result is what a load generator saw.
type result struct {
	Requests int
	Seconds  float64
	Faults   int
	P50, P99 time.Duration
}

// load sends requests for a while over connections that stay open: as fast as answers come, or at a rate, and then the time of a
// request counts from the moment at which it was due.
func load(address string, rate float64, length time.Duration) (result, error) {
	var mu sync.Mutex
	var all []time.Duration
	var faults []error
	var running sync.WaitGroup
	begin := time.Now()
	end := begin.Add(length)
	for i := range connections {
		running.Go(func() {
			took, err := one(address, i, rate, begin, end)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			if err != nil {
				faults = append(faults, err)
			}
		})
	}
	running.Wait()
	if len(all) == 0 {
		return result{}, fmt.Errorf("no request was answered: %w", errors.Join(faults...))
	}
	seconds := time.Since(begin).Seconds()
	slices.Sort(all)
	return result{len(all), seconds, len(faults), all[len(all)/2], all[len(all)*99/100]}, nil
}

// one is one connection.
func one(address string, n int, rate float64, begin, end time.Time) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	request := []byte("GET /api/orders?id=7 HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: load\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n")
	in := bufio.NewReaderSize(conn, 4096)
	took := make([]time.Duration, 0, 1<<14)
	var interval time.Duration
	due := begin
	if rate > 0 {
		interval = time.Duration(float64(connections) / rate * float64(time.Second))
		due = begin.Add(interval * time.Duration(n) / connections)
	}
	for time.Now().Before(end) {
		if rate > 0 {
			time.Sleep(time.Until(due))
		} else {
			due = time.Now()
		}
		if _, err := conn.Write(request); err != nil {
			return took, err
		}
		if err := answer(in); err != nil {
			return took, err
		}
		took = append(took, time.Since(due))
		due = due.Add(interval)
	}
	return took, nil
}

// answer reads one response with a length.
func answer(in *bufio.Reader) error {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("answer: %s", bytes.TrimSpace(status))
	}
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	if length != bodySize {
		return fmt.Errorf("an answer of %d bytes", length)
	}
	_, err = in.Discard(length)
	return err
}

// role is what this process is when it is not the benchmark.
func role() error {
	switch os.Getenv(roleVariable) {
	case roleBackend:
		return backend()
	case roleLoad:
		args := flag.NewFlagSet("load", flag.ContinueOnError)
		address := args.String("address", "", "")
		rate := args.Float64("rate", 0, "")
		length := args.Duration("length", 0, "")
		if err := args.Parse(os.Args[1:]); err != nil {
			return err
		}
		r, err := load(*address, *rate, *length)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	return errors.New("unknown role")
}
