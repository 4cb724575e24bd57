// Package upstream picks the endpoints that requests for a backend go to, and
// carries them there.
//
// A Set is immutable and made anew when Services or EndpointSlices change;
// what is counted of an endpoint (requests under way, failures) stays with it
// from one Set to the next. Of two endpoints drawn at random the one with fewer
// requests under way is taken. An endpoint to which no connection could be made
// is passed over for a moment, and the request, of which nothing was sent yet,
// goes to another.
package upstream
