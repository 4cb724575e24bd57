// Package container runs what stands for the containers of a pod: processes inside the pod's network namespace.
//
// They are real processes and not goroutines, because that is what containers are: each sees the network that its
// namespace has and nothing else, two of them compete for one port space, and the kernel keeps the namespace when they
// die. The program starts itself again for it, so a program that uses the package calls [Main] first.
//
// A container's process answers over HTTP (and UDP) on the ports that it was given, and says who it is, which addresses it
// has by its own account, and from which address the client came, see [Answer].
package container
