//go:build linux

// Bench measures Orbit and what people would use instead: in one run, at the
// same work, across real processes. Run it in this directory:
//
//	go run .                         everything, in some minutes
//	go run . -quick                  fewer points and shorter rounds
//	go run . -jobs cache -peers 'orbit|Redis'
//	go run . -md table.md -json figures.json -svg ../docs/performance.svg
//
// Redis, memcached and LMDB are used if the machine has them (Debian:
// redis-server, memcached, liblmdb0). A peer that is missing is named.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "sibling" {
		check(beSibling(os.Args[2]))
		return
	}
	var (
		short     = flag.Bool("quick", false, "fewer points and shorter rounds")
		jobsLike  = flag.String("jobs", "", "only the jobs whose names match this regular expression")
		peersLike = flag.String("peers", "", "only the peers whose names match this regular expression")
		jsonPath  = flag.String("json", "", "write the figures as JSON to this file, - for standard output")
		mdPath    = flag.String("md", "", "write the table as Markdown to this file, - for standard output")
		svgPath   = flag.String("svg", "", "write the chart to this file")
		from      = flag.String("from", "", "measure nothing: take the figures from this JSON file")
	)
	flag.Parse()
	r, err := take(*from, *short, *jobsLike, *peersLike)
	if r == nil {
		check(err)
	}
	check(errors.Join(err, r.text(os.Stdout), writeTo(*jsonPath, r.json), writeTo(*mdPath, r.markdown), writeTo(*svgPath, r.chart)))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func beSibling(argument string) error {
	var o order
	if err := json.Unmarshal([]byte(argument), &o); err != nil {
		return err
	}
	return attend(o, os.Stdin, os.Stdout)
}

// take measures, or reads what was measured.
func take(from string, short bool, jobsLike, peersLike string) (*results, error) {
	if from != "" {
		return readResults(from)
	}
	wantedJobs, err := regexp.Compile(jobsLike)
	if err != nil {
		return nil, err
	}
	wantedPeers, err := regexp.Compile(peersLike)
	if err != nil {
		return nil, err
	}
	e, at := thorough, allPoints
	if short {
		e, at = quick, fewPoints
	}
	return measureAll(e, at, wantedJobs, wantedPeers, os.Stderr)
}

// measureAll is one run, cleared away at its end or when it is interrupted.
func measureAll(e effort, at points, wantedJobs, wantedPeers *regexp.Regexp, progress io.Writer) (*results, error) {
	b, err := newBench(e, progress)
	if err != nil {
		return nil, err
	}
	defer b.close()
	defer b.closeWhenInterrupted()()
	r := newResults(e)
	return r, b.run(chosen(jobs(at), wantedJobs), b.serve(wantedPeers, r), r)
}

func chosen(list []job, wanted *regexp.Regexp) []job {
	return slices.DeleteFunc(list, func(j job) bool { return !wanted.MatchString(j.name) })
}

func writeTo(path string, how func(io.Writer) error) error {
	switch path {
	case "":
		return nil
	case "-":
		return how(os.Stdout)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(how(f), f.Close())
}
