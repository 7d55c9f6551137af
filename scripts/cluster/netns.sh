#!/usr/bin/env bash
# Cuts a host off in the middle of a job. Two network namespaces of this machine stand for two hosts, with a rank on each; the
# ranks talk over a virtual cable (TCP). When the cable is cut, mpirun and both ranks must end within 30 seconds with the reason and
# the last whole checkpoint. Resumed over the mended cable, the job must end in the same bytes as one that was never cut.
#
#   sudo ./scripts/cluster/netns.sh      # Linux, root, iproute2; a minute
#
# It needs MPICH, which setup.sh --mpi installs where there is no MPI: the ranks are started by its mpirun, with a script in place of ssh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
die() { echo "netns.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "namespaces of the network need root"
command -v ip > /dev/null || die "there is no ip: install iproute2"
./scripts/setup.sh --no-model --mpi
. scripts/setup/path.sh
program=$PWD/bin/rag-retrieval base=$PWD/models/finetune/testdata/bert-reranker mpirun=$PWD/.rag-retrieval/lib/mpirun
"$mpirun" --version 2>&1 | grep HYDRA > /dev/null || die "$mpirun is not MPICH's"

work=$(mktemp -d) a=rr-a-$$ b=rr-b-$$ job=""
cleanup() {
  if [ -n "$job" ]; then kill -9 "$job" $(ranks) 2> /dev/null || true; fi
  ip netns del "$a" 2> /dev/null || true
  ip netns del "$b" 2> /dev/null || true
  rm -rf "$work"
}
# Prints the processes of the program on both hosts.
ranks() {
  for pid in $(ip netns pids "$a") $(ip netns pids "$b"); do
    if [ "$(readlink "/proc/$pid/exe" 2> /dev/null || true)" = "$program" ]; then echo "$pid"; fi
  done
}
# Joins the hosts.
connect() {
  ip -n "$a" link set "rra$$" up
  ip -n "$b" link set "rrb$$" up
  until ip -n "$a" -br link show "rra$$" | grep -qw UP && ip -n "$b" -br link show "rrb$$" | grep -qw UP; do sleep 0.1; done
}
trap cleanup EXIT
ip netns add "$a" && ip netns add "$b" || die "this machine allows no namespaces of the network"
ip link add "rra$$" netns "$a" type veth peer name "rrb$$" netns "$b"
for host in "$a rra$$ 10.77.0.1" "$b rrb$$ 10.77.0.2"; do
  read -r ns device address <<< "$host"
  ip -n "$ns" addr add "$address/24" dev "$device"
  ip -n "$ns" link set lo up
done
connect

# In place of ssh: runs a command on one of the hosts, under a host name of its own.
cat > "$work/ssh" <<EOF
#!/bin/sh
while case \$1 in -*) true ;; *) false ;; esac; do shift; done
case \$1 in 10.77.0.1) ns=$a name=host-a ;; *) ns=$b name=host-b ;; esac
shift
exec ip netns exec \$ns unshare --uts sh -c "hostname \$name; \$*"
EOF
chmod +x "$work/ssh"
for i in $(seq 21); do
  printf '{"query": "how to reset the password of account %d", "content": "open the settings and follow the mail %d", "label": %d}\n' "$i" "$i" $((i % 2))
done > "$work/rows.jsonl"

# Starts a job with a rank on each host: output folder, further flags. UCX and libfabric must not find the shared memory that two
# real hosts do not have.
train() {
  local out=$1
  shift
  exec env UCX_TLS=tcp,self FI_PROVIDER=tcp "$work/ssh" 10.77.0.1 "exec $mpirun -launcher ssh -launcher-exec $work/ssh -localhost 10.77.0.1 \
    -hosts 10.77.0.1,10.77.0.2 -n 2 -ppn 1 $program train reranker --model $base --train-dataset $work/rows.jsonl --output-dir $out \
    --batch-size 4 --max-len 16 --dropout 0.1 --lr 1e-3 --epochs 150 --threads 1 --save-steps 10 --log-interval 100000 $*"
}

(train "$work/whole") > "$work/log" 2>&1 || { cat "$work/log"; die "the job that nothing disturbs failed"; }

train "$work/cut" > "$work/log" 2>&1 & job=$!
until [ -e "$work/cut/artifacts/checkpoint/step-00000050" ]; do
  kill -0 "$job" 2> /dev/null || { cat "$work/log"; die "the job ended before the cable was cut"; }
  sleep 0.05
done
ip -n "$b" link set "rrb$$" down
cut=$SECONDS
while kill -0 "$job" 2> /dev/null || [ -n "$(ranks)" ]; do
  [ $((SECONDS - cut)) -le 30 ] || { cat "$work/log"; die "30 seconds after the cut, there is still: $(ps -o pid=,args= -p "$(echo "$job" $(ranks) | tr ' ' ,)")"; }
  sleep 0.2
done
took=$((SECONDS - cut))
if wait "$job"; then die "mpirun says that the job that was cut ended well"; fi
job=""
reason=$(grep "has been silent" "$work/log") || { cat "$work/log"; die "no reason is given"; }
echo "$reason"
checkpoint=$(sed -n 's/.*the last whole checkpoint is \([^,]*\),.*/\1/p' <<< "$reason" | head -1)
[ -e "$checkpoint/state.json" ] || die "the checkpoint that it names is not there: $checkpoint"

connect
(train "$work/cut" --resume) > "$work/log" 2>&1 || { cat "$work/log"; die "the job could not be resumed"; }
cmp "$work/whole/model/model.safetensors" "$work/cut/model/model.safetensors"
echo "mpirun and both ranks ended $took s after the cut; resumed, the job has the same weights as one that was never cut"
