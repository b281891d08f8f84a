// A client of Go's own SSH library and of github.com/pkg/sftp: login, exec, a shell on a terminal, files both ways with
// concurrent requests, a forwarded connection that is told "hello". Ends with 0 where all of it holds.
package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func main() {
	if len(os.Args) != 7 {
		fail("usage: ADDRESS USER KEY KNOWN_HOSTS FOLDER FORWARD", nil)
	}
	address, user, keyFile, knownHosts, folder, forward := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6]
	key, err := os.ReadFile(keyFile)
	check("read the key", err)
	signer, err := ssh.ParsePrivateKey(key)
	check("parse the key", err)
	verify, err := knownhosts.New(knownHosts)
	check("read known_hosts", err)
	client, err := ssh.Dial("tcp", address, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: verify,
	})
	check("log in", err)
	defer client.Close()

	session, err := client.NewSession()
	check("open a session", err)
	session.Stdin = strings.NewReader("in")
	var errors bytes.Buffer
	session.Stderr = &errors
	out, err := session.Output("cat; echo err >&2; exit 3")
	exit, isExit := err.(*ssh.ExitError)
	expect("exec", isExit && exit.ExitStatus() == 3 && string(out) == "in" && errors.String() == "err\n")

	session, err = client.NewSession()
	check("open a session", err)
	check("ask for a terminal", session.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.ECHO: 0}))
	keys, err := session.StdinPipe()
	check("reach the shell", err)
	screen, err := session.StdoutPipe()
	check("reach the shell", err)
	check("start a shell", session.Shell())
	check("resize", session.WindowChange(33, 101))
	_, err = io.WriteString(keys, "echo size: $(stty size); exit\n")
	check("type", err)
	shown, err := io.ReadAll(screen)
	check("read the screen", err)
	expect("shell", bytes.Contains(shown, []byte("size: 33 101")))

	files, err := sftp.NewClient(client, sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true))
	check("open sftp", err)
	data := make([]byte, 8<<20+17)
	_, err = rand.Read(data)
	check("make data", err)
	name := folder + "/from-go"
	file, err := files.Create(name)
	check("create", err)
	_, err = file.ReadFrom(bytes.NewReader(data))
	check("put", err)
	check("close", file.Close())
	file, err = files.Open(name)
	check("open", err)
	var back bytes.Buffer
	_, err = file.WriteTo(&back)
	check("get", err)
	check("close", file.Close())
	expect("digest", bytes.Equal(back.Bytes(), data))
	check("rename", files.PosixRename(name, name+"-2"))
	entries, err := files.ReadDir(folder)
	check("list", err)
	found := false
	for _, entry := range entries {
		found = found || entry.Name() == "from-go-2"
	}
	expect("listing", found)
	check("remove", files.Remove(name+"-2"))
	_, err = files.Stat(name + "-2")
	expect("stat of nothing", os.IsNotExist(err))
	check("close sftp", files.Close())

	connection, err := client.Dial("tcp", forward)
	check("forward", err)
	banner, err := io.ReadAll(connection)
	check("read over the forward", err)
	expect("forward", string(banner) == "hello\n")
	check("close the forward", connection.Close())
	fmt.Println("good")
}

func check(what string, err error) {
	if err != nil {
		fail(what, err)
	}
}

func expect(what string, holds bool) {
	if !holds {
		fail(what, nil)
	}
}

func fail(what string, err error) {
	fmt.Fprintln(os.Stderr, what, err)
	os.Exit(1)
}
