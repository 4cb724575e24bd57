// Package listen accepts the connections of the ingress: in clear and over TLS,
// HTTP/1.1 and HTTP/2 (negotiated over TLS, with prior knowledge in clear), with
// or without the PROXY protocol in front, and with requests of HTTP/1 read
// strictly (package strict).
//
// Certificates are asked for with every handshake, so a new one needs no new
// listener.
package listen
