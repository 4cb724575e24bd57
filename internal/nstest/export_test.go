package nstest

// These are for the tests.
var (
	DecodeFrame = decodeFrame
	Older       = older
)
