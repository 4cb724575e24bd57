package stack

// Grow gives the calling goroutine, which should be about to begin, a stack that is large enough for a command. Otherwise the stack would be
// copied, frame by frame, whenever it has become too small.
func Grow() { grow(1) }

//go:noinline
func grow(i int) byte {
	var room [24 << 10]byte
	room[i] = 1
	return room[2*i]
}
