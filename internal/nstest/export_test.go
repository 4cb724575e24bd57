package nstest

// DecodeFrame is for the tests.
var DecodeFrame = decodeFrame
