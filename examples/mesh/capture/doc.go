// Package capture leads the TCP connections of a pod to the mesh's proxy in
// it, with package nat.
//
// What goes out is captured whole, what comes in only at ports where somebody
// listens: these are looked up again and again (sock_diag(7), a fraction of a
// millisecond), closely for a while after something changed and at least every
// Config.Every. A port that nobody listens on refuses as ever, and so does one
// that is not captured yet: a server that has just begun to listen is not
// reached before it is captured, rather than in clear.
//
// A listener on a loopback address is nobody else's business and not captured.
// Families are captured alike: where a server listens on IPv4 alone, a client
// that comes by IPv6 is accepted by the proxy, and then reset.
//
// The rules outlive the process that made them. They refuse everything while no
// proxy is there, and whoever begins again takes them over. Connections from
// before go on as they were.
package capture
