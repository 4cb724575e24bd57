package policy_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/policy"
)

// addPolicy reads a policy of either kind: those without a namespace are the cluster's.
func addPolicy(t testing.TB, s *policy.State, text string) {
	t.Helper()
	var kind struct{ Metadata struct{ Namespace string } }
	require.NoError(t, json.Unmarshal([]byte(text), &kind), text)
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if kind.Metadata.Namespace == "" {
		var p policy.ClusterNetworkPolicy
		require.NoError(t, d.Decode(&p), text)
		s.ClusterPolicies = append(s.ClusterPolicies, p)
		return
	}
	var p policy.NetworkPolicy
	require.NoError(t, d.Decode(&p), text)
	s.Policies = append(s.Policies, p)
}
