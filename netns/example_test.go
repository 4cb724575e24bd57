package netns_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os/exec"

	"github.com/podplumb/podplumb/netns"
)

// A name is made once, found again, and taken away; Remove of nothing can be told
// from a failure.
func ExampleCreate() {
	ns, err := netns.Create("blue")
	if errors.Is(err, fs.ErrExist) {
		ns, err = netns.OpenName("blue")
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ns.Close()
	// ... `ip netns exec blue ip link` now works ...
	if err := netns.Remove("blue"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Println(err)
	}
}

// The links of a namespace are listed on a thread that is in it.
func ExampleNS_Do() {
	ns, err := netns.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ns.Close()
	var links []net.Interface
	err = ns.Do(func() (err error) {
		links, err = net.Interfaces()
		return err
	})
	fmt.Println(len(links), err)
}

// A web server and its client, both inside.
func ExampleNS_DialContext() {
	ns, err := netns.OpenName("blue")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ns.Close()
	l, err := ns.Listen(context.Background(), "tcp", "[::1]:8080")
	if err != nil {
		fmt.Println(err)
		return
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	defer server.Close()
	go server.Serve(l)

	client := http.Client{Transport: &http.Transport{DialContext: ns.DialContext}}
	resp, err := client.Get("http://localhost:8080/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
}

// What the pause container does for a pod: the namespace stays while its processes
// come and go.
func ExampleNS_Pin() {
	pod, err := netns.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pod.Close()
	if err := pod.Pin("/run/pod-1"); err != nil {
		fmt.Println(err)
		return
	}
	defer netns.Unpin("/run/pod-1")
	app := exec.Command("/usr/bin/app")
	if err := pod.Start(app); err != nil {
		fmt.Println(err)
		return
	}
	_ = app.Wait() // the namespace is still there, for the next start
}

// Names are checked before anything is tried, on any system.
func ExampleValidateName() {
	fmt.Println(netns.ValidateName("pod-1"))
	fmt.Println(netns.ValidateName("../etc"))
	// Output:
	// <nil>
	// name: "../etc" holds a slash: invalid argument
}

// Errors tell the operation, the object, what to do and why.
func ExampleOpError() {
	_, err := netns.OpenName("")
	fmt.Println(err)
	fmt.Println(errors.Is(err, fs.ErrInvalid))
	// Output:
	// netns: open "": name: is empty: invalid argument
	// true
}
