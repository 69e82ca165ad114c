package main

import (
	"fmt"
	"io/fs"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"
)

// systemd-logind deletes what a user has in shared memory when the user's last
// session ends, also under processes that still use it: RemoveIPC in
// logind.conf. It spares system users and users who linger.

// checkLogout tells whether segments outlive a logout of the user.
func checkLogout(root fs.FS, uid int) finding {
	const check = "logout"
	if _, err := fs.Stat(root, "run/systemd/system"); err != nil {
		return found(fine, check, "", "systemd does not run here: nobody clears shared memory at logout")
	}
	if last := lastSystemUser(root); uid <= last {
		return found(fine, check, "", "uid %d is a system user (up to %d): systemd-logind leaves its shared memory alone", uid, last)
	}
	removes, file := removeIPC(root)
	if !removes {
		return found(fine, check, "", "systemd-logind leaves shared memory alone at logout (RemoveIPC=no, %s)", file)
	}
	name := userName(uid)
	if _, err := fs.Stat(root, "var/lib/systemd/linger/"+name); err == nil {
		return found(fine, check, "", "user %s lingers: systemd-logind leaves its shared memory alone", name)
	}
	return found(warning, check, fmt.Sprintf("Set RemoveIPC=no in /etc/systemd/logind.conf and restart systemd-logind; or \"loginctl enable-linger %s\"; or run the fleet as a system user.", name),
		"systemd-logind deletes the segments of user %s when its last session ends, also under live members (RemoveIPC=yes, %s)", name, file)
}

// userName is the name of a user, or its number if it has none.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// lastSystemUser returns the largest uid of system users.
func lastSystemUser(root fs.FS) int {
	b, _ := fs.ReadFile(root, "etc/login.defs")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "SYS_UID_MAX" {
			if n, err := strconv.Atoi(f[1]); err == nil {
				return n
			}
		}
	}
	return 999
}

// logindDirs are where systemd looks for its files. The first has the last
// word.
var logindDirs = []string{"etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"}

// removeIPC reads the setting as systemd-logind does, and tells where it
// stands: in the main file, of which there is one, or in files beside it, of
// which all count, in the order of their names.
func removeIPC(root fs.FS) (on bool, file string) {
	on, file = true, "the default"
	for _, dir := range logindDirs {
		name := dir + "/logind.conf"
		b, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		// Settings left out are there as comments, with the default.
		if v, ok := setting(string(b), "#RemoveIPC"); ok {
			on, file = v, "the default in /"+name
		}
		if v, ok := setting(string(b), "RemoveIPC"); ok {
			on, file = v, "in /"+name
		}
		break
	}
	for _, name := range dropIns(root) {
		b, _ := fs.ReadFile(root, name)
		if v, ok := setting(string(b), "RemoveIPC"); ok {
			on, file = v, "in /"+name
		}
	}
	return on, file
}

// dropIns lists the files beside the main one in the order in which they count.
// Of files with one name only that of the first directory does.
func dropIns(root fs.FS) (files []string) {
	seen := map[string]bool{}
	for _, dir := range logindDirs {
		names, _ := fs.Glob(root, dir+"/logind.conf.d/*.conf")
		for _, name := range names {
			if base := path.Base(name); !seen[base] {
				seen[base] = true
				files = append(files, name)
			}
		}
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	return files
}

// setting returns the last sound value of a yes-or-no setting of section
// [Login].
func setting(text, key string) (on, ok bool) {
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		}
		k, v, is := strings.Cut(line, "=")
		if !is || section != "[Login]" || strings.TrimSpace(k) != key {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "1", "yes", "y", "true", "t", "on":
			on, ok = true, true
		case "0", "no", "n", "false", "f", "off":
			on, ok = false, true
		}
	}
	return on, ok
}
