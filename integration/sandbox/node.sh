# The first process of a cluster's only node, in its own network, mount and process namespaces: what it starts ends with it.
# usage: node.sh DIR BIN PORT: the cluster's folder, that of Kubernetes' programs, and the port of the registry on loopback
set -eu
dir=$1 bin=$2 port=$3
sys=$bin/sys
export PATH="$bin:$sys/usr/bin:$sys/usr/sbin:$PATH"
# Other programs' mounts must not outlive them because of this copy.
awk '{print $5}' /proc/self/mountinfo | grep -E '^/tmp/(containerd-mount|buildkit|mfbk)' | while read -r at; do umount -l "$at" || :; done
mount --make-rshared /
mount -t proc proc /proc
# The kubelet sets what holds for the whole machine: here it finds it set.
for set in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
	file=$dir/set-$(echo "${set%=*}" | tr / -)
	echo "${set#*=}" > "$file"
	mount --bind "$file" "/proc/sys/${set%=*}"
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock "$dir/varlog" "$dir/varlibcni" /var/lib/cni
mount --bind "$dir/varlog" /var/log
mount --bind "$dir/varlibcni" /var/lib/cni
# The node's address and that of the API's service are loopback's: there is no kube-proxy, and the API server listens on both.
ip link set lo up
ip addr add 10.77.0.1/32 dev lo
ip addr add 10.96.0.1/32 dev lo
echo 1 > /proc/sys/net/ipv4/ip_forward
rm -f "$dir/api.sock"
socat "UNIX-LISTEN:$dir/api.sock,fork" TCP:127.0.0.1:443 &
socat "TCP-LISTEN:$port,fork,reuseaddr" "UNIX-CONNECT:$dir/registry.sock" & # on loopback for the node, on 10.77.0.1 for its pods
start() {
	name=$1
	shift
	"$@" > "$dir/log/$name.log" 2>&1 &
}
start etcd etcd --name n --data-dir /run/etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
	--listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster n=http://127.0.0.1:2380 --log-level warn
start containerd containerd --config "$dir/containerd.toml"
start apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=443 --bind-address=0.0.0.0 --advertise-address=10.77.0.1 \
	--service-cluster-ip-range=10.96.0.0/24 --authorization-mode=Node,RBAC --token-auth-file="$dir/tokens.csv" \
	--client-ca-file="$dir/pki/ca.pem" --tls-cert-file="$dir/pki/cert.pem" --tls-private-key-file="$dir/pki/key.pem" \
	--kubelet-client-certificate="$dir/pki/cert.pem" --kubelet-client-key="$dir/pki/key.pem" --kubelet-preferred-address-types=InternalIP \
	--service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$dir/pki/public.pem" --service-account-signing-key-file="$dir/pki/key.pem" \
	--allow-privileged=true --endpoint-reconciler-type=none
until kubectl --kubeconfig "$dir/node.kubeconfig" get --raw /readyz > /dev/null 2>&1; do sleep 0.5; done
start controllers kube-controller-manager --kubeconfig="$dir/node.kubeconfig" --leader-elect=false --use-service-account-credentials=false \
	--service-account-private-key-file="$dir/pki/key.pem" --root-ca-file="$dir/pki/ca.pem" --bind-address=127.0.0.1
start scheduler kube-scheduler --kubeconfig="$dir/node.kubeconfig" --leader-elect=false --bind-address=127.0.0.1
until [ -S /run/containerd/containerd.sock ]; do sleep 0.2; done
while :; do
	kubelet --config="$dir/kubelet.yaml" --kubeconfig="$dir/kubelet.kubeconfig" --hostname-override=node0 --node-ip=10.77.0.1 --root-dir="$dir/kubelet" \
		--cert-dir="$dir/pki" >> "$dir/log/kubelet.log" 2>&1 || :
	sleep 2
done
