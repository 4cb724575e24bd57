package l7

import (
	"bufio"
	"io"
	"net/http"
	"sync"

	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// switches says whether the connection speaks something else after the response.
func (x *exchange) switches(response *http.Response) bool {
	return response.StatusCode == http.StatusSwitchingProtocols || x.r.Method == http.MethodConnect && response.StatusCode/100 == 2
}

// tunnel carries bytes both ways until both ends have closed, or one of them is broken.
func (x *exchange) tunnel(response *http.Response) {
	server, ok := response.Body.(io.ReadWriteCloser)
	if !ok || response.StatusCode == http.StatusSwitchingProtocols && !x.ws {
		_ = response.Body.Close()
		err := &answer{http.StatusBadGateway, "http_upgrade_failed", "the backend switched protocols without being asked", nil}
		x.endTurn(upstream.Failure, nil, err)
		x.fail(err)
		return
	}
	defer server.Close()
	x.conn.strict.Switch()
	client, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.endTurn(upstream.Neither, nil, err)
		x.fail(err)
		return
	}
	defer client.Close()
	x.code = response.StatusCode
	clean(response.Header, x.ws)
	delete(response.Header, "Content-Length")
	head := &http.Response{StatusCode: response.StatusCode, Status: response.Status, ProtoMajor: 1, ProtoMinor: 1, Header: response.Header}
	if err := writeHead(client, head); err != nil {
		x.endTurn(upstream.Neither, response, nil)
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		x.received += carry(server, client, buffered.Reader)
	})
	x.sent = carry(client, server, server)
	both.Wait()
	x.endTurn(upstream.Success, response, nil)
}

func writeHead(w io.Writer, r *http.Response) error {
	out := bufio.NewWriter(w)
	_, _ = out.WriteString("HTTP/1.1 " + r.Status + "\r\n")
	_ = r.Header.Write(out)
	_, _ = out.WriteString("\r\n")
	return out.Flush()
}

// carry copies until the end, and then closes the other's writing side; after an error, or if that cannot be closed by
// itself, all of both.
func carry(to io.WriteCloser, from io.Closer, read io.Reader) int64 {
	buffer, _ := copies.Get().(*[]byte)
	defer copies.Put(buffer)
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{read}, *buffer)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		_ = to.Close()
		_ = from.Close()
	}
	return n
}
