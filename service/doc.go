// Package service turns Kubernetes Services and their endpoints into what one node does about them, and has a backend do it.
package service
