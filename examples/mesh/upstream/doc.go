// Package upstream keeps the connections of a proxy to one server and carries
// requests over them, as they came: HTTP/1.1 over connections that take one
// request at a time, HTTP/2 over one that takes many.
//
// HTTP/1.1 is written and read by the goroutine that has the request. That is
// what makes a hop cheap: net/http's Transport hands each request to a goroutine
// that writes and each response to another that reads. Only a request with a
// body has a goroutine more, so that a server may answer while it still reads.
//
// A connection that lay idle is looked at before it is used (one recv with
// MSG_PEEK): one that the server has closed in the meantime is not. Connections
// that the owner has told to Renew end with the request that they have.
package upstream
