package proxy

import (
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strings"
)

// requestID is the header by which a request is found again in the logs of all that it passes.
const requestID = "X-Request-Id"

// identify gives a request an id, for the backend and for the client, unless it has one.
func identify(w http.ResponseWriter, r *http.Request) string {
	id := r.Header.Get(requestID)
	if !validID(id) {
		var b [16]byte
		for i := 0; i < len(b); i += 8 {
			n := rand.Uint64() //nolint:gosec // unlikely to be another's, that is all
			for j := range 8 {
				b[i+j] = byte(n >> (8 * j))
			}
		}
		id = hex.EncodeToString(b[:])
		r.Header.Set(requestID, id)
	}
	w.Header().Set(requestID, id)
	return id
}

// validID says whether an id of a client's can be put into logs and headers as it is.
func validID(id string) bool {
	const most = 128
	return id != "" && len(id) <= most && strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.:=+/") == ""
}
