#!/bin/sh
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
# slurm.sh [SCRIPT [ARGUMENT...]]: a NATS server on the first machine of a Slurm job, a node on each
# of its machines, and a script that uses them.
#
#   sbatch examples/cluster/slurm.sh pipeline.lua A=1
#
# fzlua, fzlua-nats and nats-server must be in PATH on all machines, in the same versions. A node
# takes as many slots as Slurm has given it processors. The password travels in the environment and
# in a file of this user; what functions get and return is readable on the network between the
# machines (?insecure), see README.md for TLS.
set -eu

PATH=$PATH:/usr/sbin
[ $# != 0 ] || set -- examples/cluster/mandelbrot.lua
dir=$(mktemp -d)
password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
server='' nodes=''

end() {
	status=$?
	trap '' INT TERM
	for pid in $nodes $server; do kill "$pid" 2>/dev/null || true; done
	rm -r "$dir" # before the wait, because Slurm kills a script that takes too long
	wait
	exit $status
}
trap end EXIT
trap 'exit 143' INT TERM

cat >"$dir/server.conf" <<end
port: -1
authorization { user: "team", password: "$password" }
end
nats-server -c "$dir/server.conf" -l "$dir/server.log" &
server=$!
n=0
until grep -q 'Server is ready' "$dir/server.log" 2>/dev/null; do
	if [ $((n += 1)) -gt 100 ]; then
		cat "$dir/server.log" >&2
		exit 1
	fi
	sleep 0.1
done
port=$(sed -n 's/.*Listening for client connections on .*:\([0-9]*\)$/\1/p' "$dir/server.log")
FZLUA_ENGINE="nats://team:$password@$(hostname):$port/job-${SLURM_JOB_ID:-0}?insecure"
export FZLUA_ENGINE

# The end of a node must not end the others.
: >"$dir/nodes.log"
srun --overlap --no-kill --kill-on-bad-exit=0 --wait=0 fzlua --worker 2>>"$dir/nodes.log" &
nodes=$!
n=0 wanted=${SLURM_NTASKS:-3}
until [ "$(grep -c joined "$dir/nodes.log")" -ge "$wanted" ]; do
	if [ $((n += 1)) -gt 600 ]; then
		cat "$dir/nodes.log" >&2
		exit 1
	fi
	sleep 0.1
done
fzlua "$@"
