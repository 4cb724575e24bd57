// Package kerneltest runs the examples in tests the way people run them: as processes, with arguments, signals and exit
// codes. Every example process starts in a fresh network namespace, which stands for the machine's own network and has to
// look untouched afterwards.
//
// Without root the tests run in a user namespace of their own.
package kerneltest
