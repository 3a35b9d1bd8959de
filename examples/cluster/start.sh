#!/bin/sh
# start.sh [COMMAND [ARGUMENT...]]: a NATS server and three nodes of two slots each, on this machine.
#
# Without a command, the server and the nodes run until Ctrl-C, and another terminal can use them.
# With a command, they run as long as the command, which uses them through FZLUA_ENGINE.
# This script needs the package nats-server, and fzlua-nats beside fzlua. FZLUA names the fzlua command; the
# default is build/fzlua, or fzlua in PATH.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
fzlua=${FZLUA:-$here/build/fzlua}
[ -x "$fzlua" ] || fzlua=fzlua
PATH=$PATH:/usr/sbin
command -v nats-server >/dev/null || { echo "start.sh: no nats-server" >&2; exit 1; }

# Every process that has the password can run code as this user. So this directory is private.
dir=$(mktemp -d)
password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
server='' nodes=''

running() { # PID...: whether one of them runs
	for pid; do kill -0 "$pid" 2>/dev/null && return 0; done
	return 1
}

# At the first signal nodes finish the running calls, at the second one they end at once.
# shellcheck disable=SC2086 # a list
end_nodes() {
	for signal in TERM TERM KILL; do
		running $nodes || return 0
		kill -s $signal $nodes 2>/dev/null || true
		n=0
		while running $nodes && [ $((n += 1)) -lt 30 ]; do sleep 0.1; done
	done
}

end() {
	status=$?
	trap '' INT TERM HUP
	[ -z "$nodes" ] || end_nodes
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	wait
	rm -r "$dir"
	exit $status
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

wait_for() { # TEXT FILE PID
	until grep -q "$1" "$2" 2>/dev/null; do
		if ! running "$3"; then
			cat "$2" >&2
			exit 1
		fi
		sleep 0.05
	done
}

# The server chooses a free port. It has a session of its own, so Ctrl-C signals only this script.
cat >"$dir/server.conf" <<end
listen: "127.0.0.1:-1"
ports_file_dir: "$dir"
authorization { user: "team", password: "$password" }
end
setsid nats-server -c "$dir/server.conf" -l "$dir/server.log" &
server=$!
wait_for 'Server is ready' "$dir/server.log" "$server"
port=$(sed -n 's/.*Listening for client connections on 127.0.0.1:\([0-9]*\).*/\1/p' \
    "$dir/server.log")
FZLUA_ENGINE=nats://team:$password@127.0.0.1:$port/cluster
export FZLUA_ENGINE

for name in one two three; do
	setsid "$fzlua" --worker --name $name -j 2 2>"$dir/$name.log" &
	nodes="$nodes $!"
	wait_for joined "$dir/$name.log" $!
done

if [ $# != 0 ]; then
	"$@"
	exit
fi
echo "$FZLUA_ENGINE" >"$dir/engine"
cat <<end
A server and three nodes are ready. In another terminal:

    export FZLUA_ENGINE=\$(cat $dir/engine)
    $fzlua --nodes
    $fzlua examples/cluster/mandelbrot.lua

Ctrl-C ends them all.
end
while running "$server"; do sleep 1; done
cat "$dir/server.log" >&2
exit 1
