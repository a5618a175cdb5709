# Does in the directory of its first argument what its second one says.
set -o pipefail
cd "$1" && eval "$2"
