package report

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/examples/internal/conditions"
)

// Printer writes to one stream. Its methods may be used by several goroutines.
type Printer struct {
	Verbose int // how much detail is wanted

	mu    sync.Mutex
	w     io.Writer
	begin time.Time
	color bool
	open  bool // a step's line waits for its end
}

// New returns a printer for w.
func New(w io.Writer) *Printer {
	p := &Printer{w: w, begin: time.Now()}
	if file, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" {
		_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
		p.color = err == nil
	}
	return p
}

// Summary prints a last line with the time since the printer was made.
func (p *Printer) Summary(text string) {
	p.Line("\n%s (%s)", text, elapsed(time.Since(p.begin)))
}

const column = 46 // where the outcome of a step stands

// Step is a piece of work. Do returns what came of it, in a few words.
type Step struct {
	Title string
	Do    func(context.Context) (outcome string, err error)
}

// Steps does one step after the other until one fails or the context is cancelled.
func (p *Printer) Steps(ctx context.Context, steps ...Step) error {
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.step(ctx, step); err != nil {
			return fmt.Errorf("%s: %w", step.Title, err)
		}
	}
	return nil
}

// step prints what is about to be done, does it, and completes the line with the outcome and the time it took.
func (p *Printer) step(ctx context.Context, step Step) error {
	p.mu.Lock()
	fmt.Fprintf(p.w, "%s %s ", step.Title, strings.Repeat(".", max(3, column-utf8.RuneCountInString(step.Title))))
	p.open = true
	p.mu.Unlock()
	begin := time.Now()
	outcome, err := step.Do(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open { // details came in between
		fmt.Fprintf(p.w, "  %s: ", step.Title)
	}
	p.open = false
	if err != nil {
		fmt.Fprintln(p.w, p.paint(red, "FAILED"))
		return err
	}
	fmt.Fprintf(p.w, "%s (%s)\n", outcome, elapsed(time.Since(begin)))
	return nil
}

func elapsed(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// Line prints one line.
func (p *Printer) Line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(format, args...)
}

func (p *Printer) line(format string, args ...any) {
	if p.open {
		fmt.Fprintln(p.w)
		p.open = false
	}
	fmt.Fprintf(p.w, format+"\n", args...)
}

// Detail prints lines about something, when at least the given level of detail is wanted.
func (p *Printer) Detail(level int, about, text string) {
	if p.Verbose < level || text == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line("  on %s:", about)
	for line := range strings.Lines(text) {
		p.line("    %s", strings.TrimSuffix(line, "\n"))
	}
}

// Table prints rows in columns that are as wide as their widest cell.
func (p *Printer) Table(rows ...[]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "  %-*s", widths[i], cell)
		}
		p.Line("%s", strings.TrimRight(line.String(), " "))
	}
}

// Verdict prints a finding with "ok" or "FAILED" in front.
func (p *Printer) Verdict(ok bool, format string, args ...any) {
	word := p.paint(green, "ok    ")
	if !ok {
		word = p.paint(red, "FAILED")
	}
	p.Line("%s  %s", word, fmt.Sprintf(format, args...))
}

// Conditions prints results, each with at most lines lines of evidence (all of them with -v), and tells whether all hold.
func (p *Printer) Conditions(results []conditions.Result, lines int) bool {
	all := true
	for _, r := range results {
		all = all && r.Holds()
		p.Verdict(r.Holds(), "%d. %s: %s", r.Number, r.Title, r.Summary)
		for i, line := range r.Evidence {
			if i == lines && p.Verbose == 0 && len(r.Evidence) > lines+1 {
				p.Line("          ... %d more lines with -v", len(r.Evidence)-i)
				break
			}
			p.Line("          %s", line)
		}
		for _, fault := range r.Faults {
			p.Line("          %s: %v", p.paint(red, "but"), fault)
		}
	}
	return all
}

const (
	red   = "\x1b[31m"
	green = "\x1b[32m"
)

func (p *Printer) paint(color, text string) string {
	if !p.color {
		return text
	}
	return color + text + "\x1b[0m"
}
