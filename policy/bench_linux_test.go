package policy_test

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/policy"
)

// BenchmarkCompile reports the time for 10,000 pods and 5,000 policies, what it takes of memory, and how much dearer twice the size is.
func BenchmarkCompile(b *testing.B) {
	for _, node := range []string{"", "node0"} {
		b.Run("node="+node, func(b *testing.B) {
			cost := func(pods, policies int) time.Duration {
				s := large(pods, policies)
				var best time.Duration
				for i := range 3 {
					runtime.GC()
					start := cpu(b)
					_, err := policy.Config{Node: node}.Compile(s)
					require.NoError(b, err)
					if took := cpu(b) - start; i == 0 || took < best {
						best = took
					}
				}
				return best
			}
			half := cost(5000, 2500)
			full := large(10000, 5000)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			kept, err := policy.Config{Node: node}.Compile(full)
			require.NoError(b, err)
			runtime.ReadMemStats(&after)
			peak := after.HeapAlloc - before.HeapAlloc
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(kept)
			for b.Loop() {
				_, err := policy.Config{Node: node}.Compile(full)
				require.NoError(b, err)
			}
			took := cost(10000, 5000)
			b.ReportMetric(took.Seconds(), "cpu-s")
			b.ReportMetric(float64(took)/float64(half), "T(2N)/T(N)")
			b.ReportMetric(float64(peak)/1e6, "garbage-and-all-MB")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "kept-MB")
		})
	}
}

// cpu is the processor time that this process and its children have used, in user space and in the kernel.
func cpu(b testing.TB) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		require.NoError(b, unix.Getrusage(who, &u))
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}
