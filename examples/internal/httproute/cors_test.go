package httproute_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPreflight(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter, origin string
		want           http.Header
	}{
		{`{allowOrigins: ["https://*.shop.example", "http://a:8080"], allowMethods: [PUT, GET], allowHeaders: [X-A, X-B]}`, "https://x.y.shop.example:443", http.Header{
			"Access-Control-Allow-Origin": {"https://x.y.shop.example:443"}, "Access-Control-Allow-Methods": {"PUT, GET"},
			"Access-Control-Allow-Headers": {"X-A, X-B"}, "Access-Control-Max-Age": {"5"}, "Vary": {"Origin"},
		}},
		{`{allowOrigins: ["https://*.shop.example"]}`, "https://shop.example", http.Header{"Vary": {"Origin"}}},
		{`{allowOrigins: ["https://*.shop.example"]}`, "http://a.shop.example", http.Header{"Vary": {"Origin"}}},
		{`{allowOrigins: ["https://*.shop.example"]}`, "https://a.shop.example:444", http.Header{"Vary": {"Origin"}}},
		{`{allowOrigins: ["https://shop.example"]}`, "https://shop.example.evil", http.Header{"Vary": {"Origin"}}},
		{`{allowOrigins: ["https://*.shop.example"]}`, "https://evil.example/.shop.example", http.Header{"Vary": {"Origin"}}},
		{`{allowOrigins: ["http://*"]}`, "http://any.example", http.Header{"Access-Control-Allow-Origin": {"http://any.example"}, "Access-Control-Max-Age": {"5"}, "Vary": {"Origin"}}},
		{`{allowOrigins: ["*"], allowMethods: ["*"], allowHeaders: ["*"], maxAge: 60}`, "null", http.Header{
			"Access-Control-Allow-Origin": {"null"}, "Access-Control-Allow-Methods": {"*"}, "Access-Control-Allow-Headers": {"*"}, "Access-Control-Max-Age": {"60"}, "Vary": {"Origin"},
		}},
		{`{allowOrigins: ["*"], allowCredentials: true, allowMethods: ["*"], allowHeaders: ["*"]}`, "https://a.example", http.Header{
			"Access-Control-Allow-Origin": {"https://a.example"}, "Access-Control-Allow-Credentials": {"true"}, "Access-Control-Allow-Methods": {"PUT"},
			"Access-Control-Allow-Headers": {"x-c, x-d"}, "Access-Control-Max-Age": {"5"}, "Vary": {"Origin"},
		}},
	} {
		r := rules(t, "r", `{filters: [{type: CORS, cors: `+c.filter+`}]}`)
		require.Empty(t, r.Left)
		request := httptest.NewRequest(http.MethodOptions, "http://h/", nil)
		request.Header = http.Header{"Origin": {c.origin}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"x-c", "x-d"}}
		cors := r.Rules[0].Filters.CORS
		require.True(t, cors.Preflight(request))
		got := http.Header{}
		cors.AnswerPreflight(got, request)
		require.Equal(t, c.want, got, "%s %s", c.filter, c.origin)
	}
}

func TestCORSOfResponses(t *testing.T) {
	t.Parallel()
	cors := rules(t, "r", `{filters: [{type: CORS, cors: {allowOrigins: ["https://a.example"], allowCredentials: true, exposeHeaders: [X-A, "*"]}}]}`).Rules[0].Filters.CORS
	request := httptest.NewRequest(http.MethodGet, "http://h/", nil)
	require.False(t, cors.Preflight(request))
	backend := http.Header{"Access-Control-Allow-Origin": {"*"}, "Content-Type": {"text/plain"}}
	cors.Apply(backend, request)
	require.Equal(t, http.Header{"Content-Type": {"text/plain"}}, backend)
	request.Header.Set("Origin", "https://a.example")
	cors.Apply(backend, request)
	require.Equal(t, http.Header{
		"Content-Type": {"text/plain"}, "Vary": {"Origin"}, "Access-Control-Allow-Origin": {"https://a.example"},
		"Access-Control-Allow-Credentials": {"true"}, "Access-Control-Expose-Headers": {"X-A"},
	}, backend)
	foreign := http.Header{}
	request.Header.Set("Origin", "https://b.example")
	cors.Apply(foreign, request)
	require.Equal(t, http.Header{"Vary": {"Origin"}}, foreign)
}
