package service_test

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/service"
)

// plotEnv names the file that the plot goes to.
const plotEnv = "PODPLUMB_PLOT"

// A point is what a number of Services costs.
type point struct {
	services int
	cost     time.Duration
}

// plot draws the cost of a cold load against the number of Services, for both
// layouts, both axes logarithmic.
func plot(b *testing.B, load func(service.State) spent) {
	file := os.Getenv(plotEnv)
	if file == "" {
		return
	}
	var ours, peers []point
	for _, n := range []int{500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000} {
		ours = append(ours, point{n, load(bigState(n)).all()})
		if n <= 10_000 { // the peer's time is quadratic
			peer, _ := peerLoad(b, bigState(n))
			peers = append(peers, point{n, peer.all()})
		}
	}
	require.NoError(b, os.WriteFile(file, []byte(drawing(ours, peers)), 0o644))
}

func drawing(ours, peers []point) string {
	const left, top, width, height = 70.0, 30.0, 560.0, 320.0
	x := func(n int) float64 { return left + width*math.Log10(float64(n)/500)/math.Log10(30_000.0/500) }
	least, most := 1e-3, 1e2 // seconds
	y := func(d time.Duration) float64 {
		return top + height*(1-math.Log10(d.Seconds()/least)/math.Log10(most/least))
	}
	var s strings.Builder
	s.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 410" font-family="sans-serif" font-size="12">` + "\n")
	s.WriteString(`<rect width="660" height="410" fill="white"/>` + "\n")
	for _, n := range []int{500, 1_000, 2_000, 5_000, 10_000, 30_000} {
		fmt.Fprintf(&s, `<path d="M%.0f %.0fv%.0f" stroke="#ddd"/><text x="%.0f" y="%.0f" text-anchor="middle">%d</text>`+"\n", x(n), top, height, x(n), top+height+18, n)
	}
	for e := -3; e <= 2; e++ {
		d := time.Duration(math.Pow10(e) * float64(time.Second))
		fmt.Fprintf(&s, `<path d="M%.0f %.1fh%.0f" stroke="#ddd"/><text x="%.0f" y="%.1f" text-anchor="end">%v</text>`+"\n", left, y(d), width, left-6, y(d)+4, d)
	}
	fmt.Fprintf(&s, `<text x="%.0f" y="398" text-anchor="middle">Services, three endpoints each</text>`+"\n", left+width/2)
	fmt.Fprintf(&s, `<text x="%.0f" y="18">processor time of a cold load</text>`+"\n", left)
	for i, line := range []struct {
		name, color string
		points      []point
	}{{"chain per service, nft -f", "#c0392b", peers}, {"podplumb", "#2471a3", ours}} {
		var path []string
		for _, p := range line.points {
			path = append(path, fmt.Sprintf("%.1f %.1f", x(p.services), y(p.cost)))
			fmt.Fprintf(&s, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x(p.services), y(p.cost), line.color)
		}
		fmt.Fprintf(&s, `<path d="M%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(path, "L"), line.color)
		fmt.Fprintf(&s, `<text x="%.0f" y="%.0f" fill="%s">%s</text>`+"\n", left+12, top+18+16*float64(i), line.color, line.name)
	}
	s.WriteString("</svg>\n")
	return s.String()
}
