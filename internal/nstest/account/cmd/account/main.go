// Command account tells where every kernel test ran; see package account.
//
//	go test -json ./... | account filter RESULTS   print what go test prints, keep the outcomes in the file RESULTS
//	account packages                               the packages that have kernel tests, a line each
//	account skips RESULTS                          count the outcomes in RESULTS and name every test that was skipped
//	account failed RESULTS                         the packages that failed, a line each
//	account settle REPORT RESULTS GUEST            the verdict, from the host's report folder and RESULTS and the guest's report folder; exit status 1 when
//	                                               a kernel test ran nowhere
//
// It reads the sources below the working folder.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/podplumb/podplumb/internal/nstest/account"
)

var errNowhere = errors.New("account: some kernel tests ran nowhere")

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	commands := map[string]struct {
		files int
		do    func(files []string, in io.Reader, out io.Writer) error
	}{
		"filter":   {1, filter},
		"packages": {0, packages},
		"skips":    {1, skips},
		"failed":   {1, failed},
		"settle":   {3, settle},
	}
	if len(args) == 0 || commands[args[0]].do == nil || len(args)-1 != commands[args[0]].files {
		return errors.New("usage: account filter RESULTS | packages | skips RESULTS | failed RESULTS | settle REPORT RESULTS GUEST")
	}
	return commands[args[0]].do(args[1:], in, out)
}

func filter(files []string, in io.Reader, out io.Writer) error {
	results, err := account.Filter(out, in)
	if err != nil {
		return err
	}
	f, err := os.Create(files[0])
	if err != nil {
		return err
	}
	return errors.Join(results.Write(f), f.Close())
}

func packages(_ []string, _ io.Reader, out io.Writer) error {
	tests, err := account.Declared(".")
	if err != nil {
		return err
	}
	var names []string
	for _, t := range tests {
		names = append(names, t.Package)
	}
	for _, name := range slices.Compact(names) {
		fmt.Fprintln(out, name)
	}
	return nil
}

func skips(files []string, _ io.Reader, out io.Writer) error {
	results, err := account.ReadResults(files[0])
	if err != nil {
		return err
	}
	for _, t := range results.Tests(account.Skipped) {
		fmt.Fprintln(out, "skipped:", t)
	}
	failures := slices.DeleteFunc(results.Tests(account.Fail), func(t account.Test) bool { return t.Name == "" })
	_, err = fmt.Fprintf(out, "tests and subtests: %d passed, %d failed, %d skipped\n",
		len(results.Tests(account.Pass)), len(failures), len(results.Tests(account.Skipped)))
	return err
}

func failed(files []string, _ io.Reader, out io.Writer) error {
	results, err := account.ReadResults(files[0])
	if err != nil {
		return err
	}
	for _, t := range results.Tests(account.Fail) {
		if t.Name == "" {
			fmt.Fprintln(out, t.Package)
		}
	}
	return nil
}

func settle(files []string, _ io.Reader, out io.Writer) error {
	report, reportErr := account.ReadReport(files[0])
	host, hostErr := account.ReadResults(files[1])
	guest, guestErr := account.ReadReport(files[2])
	declared, sourceErr := account.Declared(".")
	if err := errors.Join(reportErr, hostErr, guestErr, sourceErr); err != nil {
		return err
	}
	e := account.Evidence{Declared: declared, Report: report, Host: host, Guest: guest}
	v := account.Settle(e)
	if err := v.Print(out, e); err != nil {
		return err
	}
	if len(v.Nowhere) > 0 {
		return errNowhere
	}
	return nil
}
