package strict_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/ingress/strict"
)

// stream is a connection that gives what it was given.
type stream struct {
	net.Conn
	in io.Reader
}

func (s *stream) Read(p []byte) (int, error) { return s.in.Read(p) }
func (s *stream) RemoteAddr() net.Addr       { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

const good = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" +
	"GET /b HTTP/1.1\r\nHost: x\r\n\r\n" +
	"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n5;ext=1\r\nhello\r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n" +
	"\r\nGET /d HTTP/1.1\r\nHost: x\r\nX:\r\n\r\n"

// What is as it should be passes unchanged, wherever the network cuts it.
func TestGood(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]io.Reader{"whole": strings.NewReader(good), "bytes": iotest.OneByteReader(strings.NewReader(good)), "halves": iotest.HalfReader(strings.NewReader(good))} {
		got, err := io.ReadAll(strict.NewConn(&stream{in: in}))
		require.NoError(t, err, name)
		require.Equal(t, good, string(got), name)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	post := "POST / HTTP/1.1\r\nHost: x\r\n"
	for request, fault := range map[string]string{
		"GET / HTTP/1.1\nHost: x\n\n":                                             "without a carriage return",
		"GET / HTTP/1.1\r\nHost: x\n\r\n":                                         "without a carriage return",
		post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n":          "Content-Length beside Transfer-Encoding",
		post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n":          "Content-Length beside Transfer-Encoding",
		post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n":                   "more than one Content-Length",
		post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n":                   "more than one Content-Length",
		post + "Content-Length: +5\r\n\r\n":                                       "not a number",
		post + "Content-Length: 5, 5\r\n\r\n":                                     "not a number",
		post + "Content-Length:\r\n\r\n":                                          "not a number",
		post + "Content-Length: -1\r\n\r\n":                                       "not a number",
		post + "Transfer-Encoding: gzip, chunked\r\n\r\n":                         "other than chunked",
		post + "Transfer-Encoding: \x0bchunked\r\n\r\n":                           "other than chunked",
		post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n": "other than chunked",
		post + "Transfer-Encoding : chunked\r\n\r\n":                              "no",
		post + " Transfer-Encoding: chunked\r\n\r\n":                              "goes on in the next",
		post + "X: a\rContent-Length: 5\r\n\r\n":                                  "a carriage return or zero inside",
		post + "NoColon\r\n\r\n":                                                  "without a name and a colon",
		post + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n":               "not a hexadecimal number",
		post + "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n":                "not a hexadecimal number",
		post + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n":                   "without a carriage return",
		post + "Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n":                 "longer than it says",
		post + "Transfer-Encoding: chunked\r\n\r\n0\r\nBad Name: x\r\n\r\n":       "no",
		"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n":                   "in HTTP/1.0",
		"GET  / HTTP/1.1\r\n\r\n":                                                 "one space between them",
		"GET / a HTTP/1.1\r\n\r\n":                                                "one space between them",
	} {
		s := &stream{in: strings.NewReader(request)}
		got, err := io.ReadAll(strict.NewConn(s))
		var refused *strict.Refused
		require.ErrorAs(t, err, &refused, request)
		require.Contains(t, refused.Fault, strings.TrimSuffix(fault, "no"), request)
		require.Equal(t, "\x00\r\n\r\n", string(got), request)
	}
}

// A real server answers what came before a refused request, and never sees what comes behind it.
func TestServer(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	paths := make(chan string, 10)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			paths <- r.URL.Path
			if strict.From(r.Context()) == nil {
				http.Error(w, "no connection", http.StatusInternalServerError)
			}
		}),
		ConnContext: strict.Context,
	}
	go func() { _ = server.Serve(&listening{listener}) }()
	t.Cleanup(func() { _ = server.Close() })
	c, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	fmt.Fprint(c, "GET /first HTTP/1.1\r\nHost: x\r\n\r\n"+
		"POST /second HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")
	in := bufio.NewReader(c)
	for _, want := range []int{200, 400} {
		response, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.Equal(t, want, response.StatusCode)
		_, _ = io.Copy(io.Discard, response.Body)
	}
	_, err = in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "/first", <-paths)
	require.Empty(t, paths)
}

type listening struct{ net.Listener }

func (l *listening) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return strict.NewConn(c), nil
}

// FuzzFraming: where a stream is cut makes no difference, and what passes is what came.
func FuzzFraming(f *testing.F) {
	f.Add(good)
	f.Add("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		whole, errWhole := io.ReadAll(strict.NewConn(&stream{in: strings.NewReader(in)}))
		bytes, errBytes := io.ReadAll(strict.NewConn(&stream{in: iotest.OneByteReader(strings.NewReader(in))}))
		require.Equal(t, errWhole == nil, errBytes == nil)
		if errWhole == nil {
			require.Equal(t, in, string(whole))
			require.Equal(t, in, string(bytes))
		} else {
			require.True(t, strings.HasPrefix(in, strings.TrimSuffix(string(whole), "\x00\r\n\r\n")))
		}
	})
}
