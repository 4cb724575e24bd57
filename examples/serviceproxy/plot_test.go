package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The picture: two panels with logarithmic axes, Services to the right, processor time upwards.
const (
	panelWidth, panelHeight = 380.0, 260.0
	panelLeft, panelTop     = 62.0, 56.0
	panelGap                = 90.0
	flatColour, peerColour  = "#1a73b8", "#c2571a"
)

// plot draws the costs as SVG.
func plot(all []costs) string {
	var b strings.Builder
	width, height := 2*(panelLeft+panelWidth)+panelGap-30, panelTop+panelHeight+56
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%.0f" height="%.0f" fill="white"/>`+"\n", width, height)
	panel(&b, panelLeft, "load all Services, three endpoints each", all, func(c costs) (flat, peer time.Duration) { return c.flatLoad, c.peerLoad })
	panel(&b, panelLeft+panelWidth+panelGap, "change one endpoint", all, func(c costs) (flat, peer time.Duration) { return c.flatChange, c.peerChange })
	b.WriteString("</svg>\n")
	return b.String()
}

func panel(b *strings.Builder, left float64, title string, all []costs, of func(costs) (flat, peer time.Duration)) {
	lowest, highest := time.Duration(math.MaxInt64), time.Duration(1)
	for _, c := range all {
		flat, peer := of(c)
		lowest, highest = min(lowest, flat, peer), max(highest, flat, peer)
	}
	low, high := math.Floor(math.Log10(max(1e-6, lowest.Seconds()))), math.Ceil(math.Log10(highest.Seconds()))
	first, last := math.Log10(float64(all[0].services)), math.Log10(float64(all[len(all)-1].services))
	x := func(n int) float64 { return left + panelWidth*(math.Log10(float64(n))-first)/(last-first) }
	y := func(d time.Duration) float64 {
		return panelTop + panelHeight*(high-math.Log10(max(1e-6, d.Seconds())))/(high-low)
	}
	text := func(x, y float64, anchor, colour, s string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, s)
	}
	line := func(x1, y1, x2, y2 float64) {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#dddddd"/>`+"\n", x1, y1, x2, y2)
	}
	text(left, panelTop-32, "start", "black", "<tspan font-weight=\"bold\">"+title+"</tspan>, CPU time")
	for e := low; e <= high; e++ {
		d := time.Duration(math.Pow(10, e) * float64(time.Second)).Round(time.Microsecond)
		line(left, y(d), left+panelWidth, y(d))
		text(left-6, y(d)+4, "end", "#555555", power(e))
	}
	for _, c := range all {
		line(x(c.services), panelTop, x(c.services), panelTop+panelHeight)
		text(x(c.services), panelTop+panelHeight+18, "middle", "#555555", fmt.Sprint(c.services))
	}
	text(left+panelWidth/2, panelTop+panelHeight+38, "middle", "#555555", "Services")
	for i, curve := range []struct {
		colour, name string
		of           func(costs) time.Duration
	}{
		{peerColour, "a chain and an anonymous map a Service, loaded by nft", func(c costs) time.Duration { _, peer := of(c); return peer }},
		{flatColour, "podplumb: elements of shared maps", func(c costs) time.Duration { flat, _ := of(c); return flat }},
	} {
		var points []string
		for _, c := range all {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(c.services), y(curve.of(c))))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(c.services), y(curve.of(c)), curve.colour)
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), curve.colour)
		text(left, panelTop-16+13*float64(i)-2, "start", curve.colour, curve.name)
	}
}

// power names ten to the power of e seconds.
func power(e float64) string {
	for _, unit := range []struct {
		name  string
		least float64
	}{{"s", 0}, {"ms", -3}, {"µs", -6}} {
		if e >= unit.least {
			return fmt.Sprintf("%.0f %s", math.Pow(10, e-unit.least), unit.name)
		}
	}
	return fmt.Sprintf("1e%.0f s", e)
}

// The picture that is checked in is whole, and one that this code draws.
func TestPlot(t *testing.T) {
	t.Parallel()
	drawn := plot([]costs{{100, 2e6, 2e7, 1e5, 2e7}, {10000, 1e8, 1.3e10, 1e5, 2e8}})
	file, err := os.ReadFile(costFile)
	require.NoError(t, err)
	for _, svg := range []string{drawn, string(file)} {
		decoder := xml.NewDecoder(strings.NewReader(svg))
		curves := 0
		for {
			token, err := decoder.Token()
			if token == nil {
				require.ErrorContains(t, err, "EOF")
				break
			}
			require.NoError(t, err)
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
				curves++
			}
		}
		require.Equal(t, 4, curves)
	}
}
