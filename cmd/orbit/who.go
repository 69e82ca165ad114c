package main

import "flag"

var whoFlags struct{ json bool }

var whoCommand = &command{
	name:     "who",
	operands: "FLEET",
	short:    "list who holds which subject",
	long: `Lists the subjects that are held in the contest of FLEET, by kind and label: in
whose name, by which node and process, with which fence token, for how long by
now, and how long from now unless the claim is renewed. A process id is as the
holder sees itself: in another PID namespace it has another number.

"orbit run" claims subjects of kind 199.

  orbit who web
  orbit who -json web | jq -r 'select(.label == "nightly").pid'
`,
	flags: func(f *flag.FlagSet) { jsonFlag(f, &whoFlags.json) },
	run:   runWho,
}

func runWho(args []string) error {
	f, err := observe(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	holders, _, err := holdersOf(f)
	if err = notYet(err); err != nil || len(holders) == 0 { // no contest, no holders
		return err
	}
	if whoFlags.json {
		for _, h := range holders {
			if err := printJSON(holderOf(f.Name(), &h)); err != nil {
				return err
			}
		}
		return nil
	}
	s := newSheet()
	s.holders(holders)
	return s.close()
}
