package source

import (
	"errors"
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
)

// Choose returns the directory if there is one, and otherwise the API server of the kubeconfig, with the master's address
// if that is given; with neither, that of the pod's service account.
func Choose(directory, kubeconfig, master, userAgent string) (Source, error) {
	if directory != "" {
		if kubeconfig != "" || master != "" {
			return nil, errors.New("-f and -kubeconfig or -master: the objects come from one place")
		}
		return Directory(directory), nil
	}
	config, err := clientcmd.BuildConfigFromFlags(master, kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("%w (-f DIR takes the objects from manifests instead)", err)
	}
	config.UserAgent = userAgent
	return APIServer{Config: config}, nil
}
