// Package strict reads the framing of HTTP/1 requests as RFC 9112 writes it, in
// front of a server that reads it generously.
//
// Where two readers find the end of a request at different places, the second
// takes a part of it for another request: request smuggling. So what leaves room
// for that is refused with 400 and the connection closed: lines that end without
// a carriage return, a colon with space before it, folded lines, letters that no
// header may have, Content-Length beside Transfer-Encoding, more than one
// Content-Length, any coding but chunked, one in HTTP/1.0, and chunks with a size that is not
// plain hexadecimal.
//
// A Conn passes on what it has read as it is. After a switch of protocols
// (Conn.Switch) and on connections that begin with HTTP/2's preface it looks no
// more.
package strict
