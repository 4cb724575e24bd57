package apiserver

import (
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
)

// discover answers what clients ask to learn which kinds there are.
func (s *Server) discover(w http.ResponseWriter, path []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(path) == 1 && path[0] == "version":
		tell(w, version.Info{Major: "1", Minor: "37", GitVersion: "v1.37.0"}, nil)
	case len(path) == 1 && path[0] == "api":
		tell(w, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: []string{"v1"}}, nil)
	case len(path) == 1 && path[0] == "apis":
		tell(w, s.groups(), nil)
	case len(path) == 2 && path[0] == "api":
		tell(w, s.kinds("", path[1]), nil)
	case len(path) == 2 && path[0] == "apis":
		for _, g := range s.groups().Groups {
			if g.Name == path[1] {
				tell(w, g, nil)
				return true
			}
		}
		return false
	case len(path) == 3 && path[0] == "apis":
		list := s.kinds(path[1], path[2])
		if len(list.APIResources) == 0 {
			return false
		}
		tell(w, list, nil)
	default:
		return false
	}
	return true
}

func (s *Server) groups() metav1.APIGroupList {
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, r := range s.resources {
		if r.Group == "" {
			continue
		}
		at := slices.IndexFunc(list.Groups, func(g metav1.APIGroup) bool { return g.Name == r.Group })
		if at < 0 {
			at = len(list.Groups)
			list.Groups = append(list.Groups, metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: r.Group})
		}
		g := &list.Groups[at]
		for _, v := range r.Versions {
			full := metav1.GroupVersionForDiscovery{GroupVersion: r.Group + "/" + v, Version: v}
			if !slices.Contains(g.Versions, full) {
				g.Versions = append(g.Versions, full)
			}
		}
		g.PreferredVersion = g.Versions[0]
	}
	return list
}

func (s *Server) kinds(group, version string) metav1.APIResourceList {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: (&Resource{Group: group}).apiVersion(version)}
	for _, r := range s.resources {
		if r.Group != group || !slices.Contains(r.Versions, version) {
			continue
		}
		of := metav1.APIResource{Name: r.Name, Kind: r.Kind, Namespaced: r.Namespaced, Verbs: []string{"create", "delete", "get", "list", "patch", "update", "watch"}}
		list.APIResources = append(list.APIResources, of)
		if r.Status {
			of.Name, of.Verbs = r.Name+"/status", []string{"get", "patch", "update"}
			list.APIResources = append(list.APIResources, of)
		}
	}
	return list
}

// apiVersion is the field of objects.
func (r *Resource) apiVersion(version string) string {
	if r.Group == "" {
		return version
	}
	return r.Group + "/" + version
}

var _ http.Handler = (*Server)(nil)
