// Interop reads a log's directory with Go's own packages and nothing of ours: it checks the
// signed checkpoint (note), every tile and entry (tlog), and that our proofs are the ones that
// tlog makes itself. It prints one line of JSON, or fails with the first thing that is wrong.
package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type result struct {
	Size        int64  `json:"size"`
	Records     int64  `json:"records"`
	Inclusion   int    `json:"inclusion"`
	Consistency int    `json:"consistency"`
	Cosigned    bool   `json:"cosigned"`
	Resigned    string `json:"resigned"`
}

// dirTiles serves tlog's tiles from the C2SP layout.
type dirTiles struct{ dir string }

func (dirTiles) Height() int { return 8 }

func (d dirTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, t := range tiles {
		if t.H != 8 {
			return nil, fmt.Errorf("tile height %d", t.H)
		}
		data, err := os.ReadFile(filepath.Join(d.dir, path(strconv.Itoa(t.L), t.N, t.W)))
		if err != nil {
			return nil, err
		}
		if len(data) != t.W*tlog.HashSize {
			return nil, fmt.Errorf("tile %v has %d bytes", t, len(data))
		}
		out = append(out, data)
	}
	return out, nil
}

func (dirTiles) SaveTiles([]tlog.Tile, [][]byte) {}

func path(level string, n int64, width int) string {
	name := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		name = fmt.Sprintf("x%03d/%s", n%1000, name)
	}
	if width < 256 {
		name += fmt.Sprintf(".p/%d", width)
	}
	return "tile/" + level + "/" + name
}

func bundle(dir string, n int64, width int) ([][]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, path("entries", n, width)))
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for len(data) > 0 {
		if len(data) < 2 {
			return nil, errors.New("cut bundle")
		}
		size := int(binary.BigEndian.Uint16(data))
		if len(data) < 2+size {
			return nil, errors.New("cut entry")
		}
		out = append(out, data[2:2+size])
		data = data[2+size:]
	}
	if len(out) != width {
		return nil, fmt.Errorf("bundle %d has %d entries", n, len(out))
	}
	return out, nil
}

func hashes(lines []string) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, line := range lines {
		if line == "" {
			continue
		}
		h, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

func same(a, b []tlog.Hash) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// cosigned checks a witness's line by the text of c2sp.org/tlog-cosignature.
func cosigned(n *note.Note, witness string) (bool, error) {
	parts := strings.SplitN(witness, "+", 3)
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		return false, fmt.Errorf("not a witness's key: %v", err)
	}
	for _, s := range n.UnverifiedSigs {
		if s.Name != parts[0] || fmt.Sprintf("%08x", s.Hash) != parts[1] {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(s.Base64)
		if err != nil || len(raw) != 4+8+64 {
			return false, fmt.Errorf("a cosignature of %d bytes", len(raw))
		}
		message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(raw[4:12]), n.Text)
		return ed25519.Verify(key[1:], []byte(message), raw[12:]), nil
	}
	return false, nil
}

func run(dir, vkey, witness, skeyFile, proofs string) (*result, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("verifier key: %w", err)
	}
	msg, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return nil, err
	}
	n, err := note.Open(msg, note.VerifierList(verifier))
	if err != nil {
		return nil, fmt.Errorf("note.Open: %w", err)
	}
	lines := strings.Split(n.Text, "\n")
	if lines[0] != verifier.Name() {
		return nil, fmt.Errorf("origin %q", lines[0])
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return nil, err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return nil, err
	}
	out := &result{Size: size}
	if out.Cosigned, err = cosigned(n, witness); err != nil {
		return nil, err
	}

	// Every tile, authenticated by tlog against the signed root.
	tree := tlog.Tree{N: size, Hash: root}
	reader := tlog.TileHashReader(tree, dirTiles{dir})
	for at := int64(0); at < size; at += 256 {
		width := int(min(256, size-at))
		entries, err := bundle(dir, at/256, width)
		if err != nil {
			return nil, err
		}
		for i, entry := range entries {
			index := at + int64(i)
			got, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
			if err != nil {
				return nil, fmt.Errorf("entry %d: %w", index, err)
			}
			if got[0] != tlog.RecordHash(entry) {
				return nil, fmt.Errorf("entry %d has another hash", index)
			}
			out.Records++
		}
	}

	// Our proofs: tlog accepts them, and makes the same ones.
	names, err := filepath.Glob(filepath.Join(proofs, "*"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		head, tail, _ := strings.Cut(string(text), "\n\n")
		l := strings.Split(head, "\n")
		switch l[0] {
		case "c2sp.org/tlog-proof@v1":
			if !bytes.Equal([]byte(tail), msg) {
				return nil, fmt.Errorf("%s: another checkpoint", name)
			}
			entry, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(l[1], "extra "))
			if err != nil {
				return nil, err
			}
			index, err := strconv.ParseInt(strings.TrimPrefix(l[2], "index "), 10, 64)
			if err != nil {
				return nil, err
			}
			proof, err := hashes(l[3:])
			if err != nil {
				return nil, err
			}
			if err := tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(entry)); err != nil {
				return nil, fmt.Errorf("%s: CheckRecord: %w", name, err)
			}
			own, err := tlog.ProveRecord(size, index, reader)
			if err != nil || !same(own, proof) {
				return nil, fmt.Errorf("%s: ProveRecord makes another proof (%v)", name, err)
			}
			out.Inclusion++
		case "esg-ledger-consistency/v1":
			var sizes [2]int64
			var roots [2]tlog.Hash
			for i := range sizes {
				f := strings.Fields(l[1+i])
				if sizes[i], err = strconv.ParseInt(f[1], 10, 64); err != nil {
					return nil, err
				}
				if roots[i], err = tlog.ParseHash(f[2]); err != nil {
					return nil, err
				}
				own, err := tlog.TreeHash(sizes[i], reader)
				if err != nil || own != roots[i] {
					return nil, fmt.Errorf("%s: root of %d (%v)", name, sizes[i], err)
				}
			}
			proof, err := hashes(l[3:])
			if err != nil {
				return nil, err
			}
			if err := tlog.CheckTree(proof, sizes[1], roots[1], sizes[0], roots[0]); err != nil {
				return nil, fmt.Errorf("%s: CheckTree: %w", name, err)
			}
			own, err := tlog.ProveTree(sizes[1], sizes[0], reader)
			if err != nil || !same(own, proof) {
				return nil, fmt.Errorf("%s: ProveTree makes another proof (%v)", name, err)
			}
			out.Consistency++
		default:
			return nil, fmt.Errorf("%s: %q", name, l[0])
		}
	}

	// The other way round: a note signed by Go with our key file, for our own code to open.
	skey, err := os.ReadFile(skeyFile)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(skey)))
	if err != nil {
		return nil, fmt.Errorf("note.NewSigner: %w", err)
	}
	signed, err := note.Sign(&note.Note{Text: n.Text}, signer)
	if err != nil {
		return nil, err
	}
	out.Resigned = string(signed)
	return out, nil
}

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: interop DIR VERIFIER-KEY WITNESS-KEY SIGNING-KEY-FILE PROOFS-DIR")
		os.Exit(2)
	}
	out, err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		os.Exit(1)
	}
}
