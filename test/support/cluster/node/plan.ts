// What a cluster on this machine consists of, as values: folders, addresses, files and command lines. Pure: nothing is
// read or started here. One cluster has its own network, mount and process namespaces, so its addresses inside may be the
// same in each; only the link to the host is numbered.
import path from 'node:path';

export type ClusterSize = 'node' | 'control';

export interface ClusterUser {
  name: string;
  groups: readonly string[];
  /** Secret of this run only. */
  token: string;
}

export interface ClusterPlan {
  size: ClusterSize;
  folder: string;
  /** Holds etcd, kube-apiserver and the rest. */
  binaries: string;
  /** Number of the link to the host, 0 to 255; also names the cgroup. */
  index: number;
  /** Address of the host as pods and the node see it. */
  hostAddress: string;
  /** The API server's own address, from the host and from pods. */
  nodeAddress: string;
  apiPort: number;
  etcdPort: number;
  etcdPeerPort: number;
  users: readonly ClusterUser[];
  /** Tokens of the cluster's own programs, by user name. */
  components: Readonly<Record<ComponentName, ClusterUser>>;
}

export type ComponentName = 'admin' | 'controllers' | 'scheduler' | 'node' | 'proxy' | 'dns';

export interface Program {
  name: string;
  command: string;
  args: readonly string[];
  env?: Readonly<Record<string, string>>;
}

export const NODE_NAME = 'node-1';
export const POD_CIDR = '10.244.0.0/24';
export const SERVICE_CIDR = '10.96.0.0/16';
/** First of SERVICE_CIDR: the Service `kubernetes`. */
export const API_SERVICE_ADDRESS = '10.96.0.1';
export const DNS_SERVICE_ADDRESS = '10.96.0.10';
/** Where the node reaches CoreDNS, which listens on all its addresses: one of the node that no other cluster can see. */
export const DNS_ADDRESS = '10.244.255.53';
export const PAUSE_IMAGE = 'localhost/pause:1';
export const PROVISIONER = 'sallyport.dev/local-folder';

/** The users that every test cluster knows, beside `admin` (system:masters). */
export const TEST_USERS: readonly { name: string; groups: readonly string[] }[] = [
  { name: 'alice', groups: ['payments'] },
  { name: 'bob', groups: ['payments'] },
  { name: 'carol', groups: ['dba'] },
  { name: 'auditor', groups: ['auditors'] },
];

export const hostLink = (index: number): string => `spcl${index}h`;
export const nodeLink = (index: number): string => `spcl${index}n`;
export const cgroupOf = (index: number): string => `sallyport-cluster-${index}`;

export const COMPONENTS: Readonly<Record<ComponentName, { name: string; groups: readonly string[] }>> = {
  admin: { name: 'admin', groups: ['system:masters'] },
  controllers: { name: 'system:kube-controller-manager', groups: [] },
  scheduler: { name: 'system:kube-scheduler', groups: [] },
  node: { name: `system:node:${NODE_NAME}`, groups: ['system:nodes'] },
  proxy: { name: 'system:kube-proxy', groups: [] },
  dns: { name: 'system:coredns', groups: [] },
};

/** While it is there, the program (etcd, kube-apiserver, …) is started again when it ends, once; else its end ends all. */
export const restartFile = (folder: string, program: string): string => path.join(folder, `restart-${program}`);

export function files(folder: string) {
  const at = (...parts: string[]): string => path.join(folder, ...parts);
  return {
    plan: at('plan.json'),
    state: at('state.json'),
    logs: at('logs'),
    etcd: at('etcd'),
    pki: at('pki'),
    ca: at('pki', 'ca.crt'),
    apiCertificate: at('pki', 'apiserver.crt'),
    apiKey: at('pki', 'apiserver.key'),
    serviceAccountKey: at('pki', 'service-accounts.key'),
    tokens: at('pki', 'tokens.csv'),
    kubeconfigs: at('kubeconfigs'),
    /** A kubeconfig with a context for each user; `admin` is current. */
    kubeconfig: at('kubeconfig'),
    containerd: at('containerd'),
    containerdConfig: at('containerd', 'config.toml'),
    socket: at('containerd', 'containerd.sock'),
    cni: at('cni'),
    kubelet: at('kubelet'),
    kubeletConfig: at('kubelet.yaml'),
    corefile: at('Corefile'),
    volumes: at('volumes'),
    /** Folders that stand in for the host's own, by mounts that only the cluster sees. */
    instead: at('instead'),
    bootstrap: at('bootstrap.yaml'),
  };
}

export const kubeconfigOf = (folder: string, user: string): string =>
  path.join(files(folder).kubeconfigs, `${user.replaceAll(':', '-')}.yaml`);

/** The host's folders that the cluster gets of its own, under the same name. */
export const OWN_FOLDERS: readonly string[] = [
  '/run/netns',
  '/run/containerd',
  '/var/lib/cni',
  '/var/lib/kubelet',
  '/var/log/pods',
  '/var/log/containers',
];

/** CSV of `--token-auth-file`: token,user,uid,"groups". The uid equals the name with a prefix, as IdPs' uids differ from names. */
export const tokenFile = (users: readonly ClusterUser[]): string =>
  users
    .map(
      (user) =>
        `${user.token},${user.name},uid-${user.name.replaceAll(':', '-')}${user.groups.length > 0 ? `,"${user.groups.join(',')}"` : ''}\n`,
    )
    .join('');

/** `users[0]` is the current context. JSON is YAML. */
export function kubeconfig(plan: ClusterPlan, ca: string, users: readonly ClusterUser[]): string {
  return `${JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: 'sallyport',
          cluster: {
            server: `https://${plan.nodeAddress}:${plan.apiPort}`,
            'certificate-authority-data': Buffer.from(ca).toString('base64'),
          },
        },
      ],
      users: users.map((user) => ({ name: user.name, user: { token: user.token } })),
      contexts: users.map((user) => ({ name: user.name, context: { cluster: 'sallyport', user: user.name } })),
      'current-context': users[0]?.name ?? '',
    },
    null,
    2,
  )}\n`;
}

export function etcd(plan: ClusterPlan): Program {
  const client = `http://127.0.0.1:${plan.etcdPort}`;
  const peer = `http://127.0.0.1:${plan.etcdPeerPort}`;
  return {
    name: 'etcd',
    command: path.join(plan.binaries, 'etcd'),
    args: [
      ['--data-dir', files(plan.folder).etcd],
      ['--listen-client-urls', client],
      ['--advertise-client-urls', client],
      ['--listen-peer-urls', peer],
      ['--initial-advertise-peer-urls', peer],
      ['--initial-cluster', `default=${peer}`],
      // Nothing in a test cluster outlives the machine.
      ['--unsafe-no-fsync'],
      ['--log-level', 'warn'],
    ].flat(),
  };
}

export function apiServer(plan: ClusterPlan): Program {
  const own = files(plan.folder);
  return {
    name: 'kube-apiserver',
    command: path.join(plan.binaries, 'kube-apiserver'),
    args: [
      ['--etcd-servers', `http://127.0.0.1:${plan.etcdPort}`],
      ['--secure-port', String(plan.apiPort)],
      ['--bind-address', plan.size === 'node' ? '0.0.0.0' : plan.nodeAddress],
      ...(plan.size === 'node'
        ? [['--advertise-address', plan.nodeAddress]]
        : [['--endpoint-reconciler-type', 'none']]),
      ['--tls-cert-file', own.apiCertificate],
      ['--tls-private-key-file', own.apiKey],
      ['--cert-dir', own.pki],
      ['--token-auth-file', own.tokens],
      ['--authorization-mode', 'Node,RBAC'],
      ['--enable-admission-plugins', 'NodeRestriction'],
      ['--service-account-issuer', 'https://kubernetes.default.svc'],
      ['--service-account-key-file', own.serviceAccountKey],
      ['--service-account-signing-key-file', own.serviceAccountKey],
      ['--service-cluster-ip-range', SERVICE_CIDR],
      ['--allow-privileged'],
      ['--kubelet-preferred-address-types', 'InternalIP'],
      ['--profiling=false'],
    ].flat(),
  };
}

export function controllerManager(plan: ClusterPlan): Program {
  const own = files(plan.folder);
  return {
    name: 'kube-controller-manager',
    command: path.join(plan.binaries, 'kube-controller-manager'),
    args: [
      ['--kubeconfig', kubeconfigOf(plan.folder, plan.components.controllers.name)],
      ['--bind-address', '127.0.0.1'],
      ['--cert-dir', own.pki],
      ['--leader-elect=false'],
      // Each controller as its own ServiceAccount, as in every real cluster: admission policies tell them apart.
      ['--use-service-account-credentials'],
      ['--service-account-private-key-file', own.serviceAccountKey],
      ['--root-ca-file', own.ca],
      ['--profiling=false'],
    ].flat(),
  };
}

export function scheduler(plan: ClusterPlan): Program {
  return {
    name: 'kube-scheduler',
    command: path.join(plan.binaries, 'kube-scheduler'),
    args: [
      ['--kubeconfig', kubeconfigOf(plan.folder, plan.components.scheduler.name)],
      ['--bind-address', '127.0.0.1'],
      ['--cert-dir', files(plan.folder).pki],
      ['--leader-elect=false'],
      ['--profiling=false'],
    ].flat(),
  };
}

export function containerd(plan: ClusterPlan): Program {
  return {
    name: 'containerd',
    command: 'containerd',
    args: ['--config', files(plan.folder).containerdConfig],
  };
}

export function kubelet(plan: ClusterPlan): Program {
  return {
    name: 'kubelet',
    command: path.join(plan.binaries, 'kubelet'),
    args: [
      ['--kubeconfig', kubeconfigOf(plan.folder, plan.components.node.name)],
      ['--config', files(plan.folder).kubeletConfig],
      ['--root-dir', '/var/lib/kubelet'],
      ['--node-ip', plan.nodeAddress],
      ['--hostname-override', NODE_NAME],
    ].flat(),
  };
}

export function kubeProxy(plan: ClusterPlan): Program {
  return {
    name: 'kube-proxy',
    command: path.join(plan.binaries, 'kube-proxy'),
    args: [
      ['--kubeconfig', kubeconfigOf(plan.folder, plan.components.proxy.name)],
      ['--proxy-mode', 'nftables'],
      ['--cluster-cidr', POD_CIDR],
      ['--conntrack-max-per-core', '0'],
      ['--hostname-override', NODE_NAME],
      ['--bind-address', plan.nodeAddress],
      ['--healthz-bind-address', '127.0.0.1:10256'],
      ['--metrics-bind-address', '127.0.0.1:10249'],
    ].flat(),
  };
}

export function coreDns(plan: ClusterPlan): Program {
  return {
    name: 'coredns',
    command: path.join(plan.binaries, 'coredns'),
    args: ['-conf', files(plan.folder).corefile],
  };
}

/** `restrict_oom_score_adj`: without CAP_SYS_RESOURCE every pod would fail to start. */
export function containerdConfig(plan: ClusterPlan): string {
  const own = files(plan.folder);
  return `version = 2
root = "${own.containerd}/root"
state = "/run/containerd/state"
oom_score = 0

[grpc]
  address = "${own.socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${own.cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`;
}

/** Point to point, not a bridge: every packet between pods is routed, so Services work without br_netfilter. */
export const cniConfig = (): string =>
  JSON.stringify({
    cniVersion: '1.0.0',
    name: 'pods',
    plugins: [
      {
        type: 'ptp',
        ipMasq: false,
        ipam: { type: 'host-local', ranges: [[{ subnet: POD_CIDR }]], routes: [{ dst: '0.0.0.0/0' }] },
      },
    ],
  });

export function kubeletConfig(plan: ClusterPlan): string {
  return JSON.stringify({
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    address: plan.nodeAddress,
    // Nobody but the API server and the cluster's own pods reaches this address, and nothing in it is worth guarding.
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    containerRuntimeEndpoint: `unix://${files(plan.folder).socket}`,
    clusterDNS: [DNS_SERVICE_ADDRESS],
    clusterDomain: 'cluster.local',
    // Pods must not inherit the machine's search domains.
    resolvConf: path.join(plan.folder, 'resolv.conf'),
    cgroupDriver: 'cgroupfs',
    cgroupRoot: `/${cgroupOf(plan.index)}`,
    enforceNodeAllocatable: [],
    failCgroupV1: false,
    failSwapOn: false,
    localStorageCapacityIsolation: false,
    evictionHard: { 'memory.available': '1%', 'nodefs.available': '1%', 'imagefs.available': '1%' },
    imageGCHighThresholdPercent: 100,
    syncFrequency: '10s',
    fileCheckFrequency: '0s',
    httpCheckFrequency: '0s',
    nodeStatusUpdateFrequency: '5s',
    shutdownGracePeriod: '0s',
  });
}

export const corefile = (plan: ClusterPlan): string => `.:53 {
  errors
  kubernetes cluster.local in-addr.arpa {
    kubeconfig ${kubeconfigOf(plan.folder, plan.components.dns.name)}
    pods insecure
    ttl 5
  }
  cache 5
}
`;

/** Masquerades what leaves the cluster, so that pods reach servers of the host. */
export const masquerade = (): string => `table ip sallyport-cluster {
  chain leaving {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${POD_CIDR} ip daddr != { ${POD_CIDR}, ${SERVICE_CIDR}, ${DNS_ADDRESS} } masquerade
  }
}
`;

/** What the cluster needs inside before it is of use; one YAML document (JSON) an item. */
export function bootstrapObjects(): readonly object[] {
  const system = (name: string) => ({ name, namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } });
  const ports = [
    { name: 'dns', port: 53, protocol: 'UDP' },
    { name: 'dns-tcp', port: 53, protocol: 'TCP' },
  ];
  return [
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: 'standard', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
      provisioner: PROVISIONER,
      reclaimPolicy: 'Delete',
      volumeBindingMode: 'Immediate',
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name: 'system:coredns' },
      rules: [
        { apiGroups: [''], resources: ['services', 'pods', 'namespaces'], verbs: ['list', 'watch'] },
        { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
      ],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: 'system:coredns' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'system:coredns' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: COMPONENTS.dns.name }],
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: system('kube-dns'),
      spec: { clusterIP: DNS_SERVICE_ADDRESS, ports },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { ...system('kube-dns'), labels: { 'kubernetes.io/service-name': 'kube-dns' } },
      addressType: 'IPv4',
      ports,
      endpoints: [{ addresses: [DNS_ADDRESS], conditions: { ready: true } }],
    },
  ];
}
