#!/usr/bin/env bash
# Trains on the hosts of a hostfile. This machine must reach them by ssh without a password, and all must see the checkout under the
# same path (NFS, or a copy that scripts/setup.sh --mpi was run in). Lines with CHANGE depend on your hosts and data.
#
#   scripts/cluster/mpirun.sh [HOSTFILE]      # default: scripts/cluster/hostfile
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
hosts=$(mktemp)
trap 'rm -f "$hosts"' EXIT
sed -E 's/[[:space:]]*#.*//; /^$/d' "${1:-scripts/cluster/hostfile}" >"$hosts"
ranks=$(awk -F: '{n += NF > 1 ? $2 : 1} END {print n}' "$hosts")

mpirun=.rag-retrieval/lib/mpirun
start=("$mpirun" -f "$hosts" -n "$ranks")                  # MPICH, Intel MPI
if "$mpirun" --version | grep 'Open MPI\|OpenRTE' > /dev/null; then # writes NAME slots=N, and binds each rank to one core if it is not told
  sed -i 's/:/ slots=/' "$hosts"
  start=("$mpirun" --hostfile "$hosts" -n "$ranks" --bind-to none)
fi
# If hosts have several networks, name the one to use. CHANGE:
#   MPICH: start+=(-iface eth0)      Open MPI: start+=(--mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0)

out=out                                                    # CHANGE
settings=(                                                 # CHANGE: as on one machine; --batch-size is per rank
  embedding --model .rag-retrieval/models/all-MiniLM-L6-v2 --train-dataset pairs.jsonl --output-dir "$out"
  --batch-size 32 --save-steps 200
)
"${start[@]}" bin/rag-retrieval doctor
if [ -d "$out/artifacts" ]; then settings+=(--resume); fi
"${start[@]}" bin/rag-retrieval train "${settings[@]}"
