package sandbox

import (
	"context"
	"fmt"
	"strconv"
)

// apartPort is where a node that is apart listens, in its own network.
const apartPort = "1234"

// inNetwork begins a node in its own network, in which the registry is where it is outside: it goes through a socket.
const inNetwork = `ip link set lo up
setpriv --pdeathsig KILL socat "TCP-LISTEN:${1##*:},bind=${1%:*},fork" "UNIX-CONNECT:$0" &
shift
exec "$@"`

// connect puts a cable between a node's network and this one.
func (n *Node) connect(ctx context.Context) error {
	pid := strconv.Itoa(n.process.cmd.Process.Pid)
	// Process numbers tell nodes apart: a network of four addresses for each.
	net := n.process.cmd.Process.Pid % (1 << 14)
	here, there := fmt.Sprintf("10.79.%d.%d", net>>6, net<<2&0xff+1), fmt.Sprintf("10.79.%d.%d", net>>6, net<<2&0xff+2)
	n.TCP = "tcp://" + there + ":" + apartPort
	for _, args := range [][]string{
		{"ip", "link", "add", "mf" + pid, "type", "veth", "peer", "name", "eth0", "netns", pid},
		{"ip", "addr", "add", here + "/30", "dev", "mf" + pid},
		{"ip", "link", "set", "mf" + pid, "up"},
		n.within("ip", "addr", "add", there+"/30", "dev", "eth0"),
		n.within("ip", "link", "set", "eth0", "up"),
	} {
		if _, err := run(ctx, command{Args: args}); err != nil {
			return err
		}
	}
	return nil
}

// within is a command in the node's network.
func (n *Node) within(args ...string) []string {
	return append([]string{"nsenter", "--target", strconv.Itoa(n.process.cmd.Process.Pid), "--net"}, args...)
}

// Blackhole has whatever is sent to a node that is apart, and whatever it sends, vanish.
func (n *Node) Blackhole(ctx context.Context) error {
	for _, chain := range []string{"INPUT", "OUTPUT"} {
		if _, err := run(ctx, command{Args: n.within("iptables", "-P", chain, "DROP")}); err != nil {
			return err
		}
	}
	return nil
}
