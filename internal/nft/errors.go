package nft

import "errors"

var (
	// ErrStale says that the ruleset changed since the generation that a
	// commit was for. Nothing was changed.
	ErrStale = errors.New("ruleset changed meanwhile")
	// ErrInterrupted says that others changed the ruleset during every try
	// to read it.
	ErrInterrupted = errors.New("reading was interrupted by changes every time")
	// ErrTooBig says that a transaction does not fit the socket's send
	// buffer. Nothing was changed.
	ErrTooBig = errors.New("transaction larger than the socket's send buffer")
)
