package policy_test

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/policy"
)

// TestCRD holds Validate to verdicts that the schema and the rules of the CRD of ClusterNetworkPolicy (v1alpha2 of network-policy-api
// v0.2.0, experimental channel) gave of random objects, as an API server applies them.
func TestCRD(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/crd.jsonl")
	require.NoError(t, err)
	defer file.Close()
	good, bad, stricter := 0, 0, 0
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row struct {
			CRD    string
			Object json.RawMessage
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &row))
		var p policy.ClusterNetworkPolicy
		parse(t, &p, string(row.Object))
		err := policy.State{ClusterPolicies: []policy.ClusterNetworkPolicy{p}}.Validate()
		switch {
		case row.CRD != "":
			require.Error(t, err, "%s\nthe CRD: %s", row.Object, row.CRD)
			bad++
		case err != nil: // what the CRD cannot tell
			for _, fault := range err.(interface{ Unwrap() []error }).Unwrap() {
				require.True(t, strings.Contains(fault.Error(), ".matchExpressions[") || strings.Contains(fault.Error(), ".domainNames: can only be accepted"), fault)
			}
			stricter++
		default:
			good++
		}
	}
	require.NoError(t, lines.Err())
	require.Greater(t, min(good, bad), 10)
	require.Positive(t, stricter)
}
