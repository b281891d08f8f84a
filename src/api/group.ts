// The API group and its labels. Apart from the schemas, so that whoever only names them loads no schema.
export const API_GROUP = 'sallyport.dev';
export const API_VERSION = 'v1alpha1';
export const API_GROUP_VERSION = `${API_GROUP}/${API_VERSION}` as const;

/** Label of what a proxy tells of: the value is its ProxyReplica's name. Admission sees to it that it is its own. */
export const REPLICA_LABEL = 'sallyport.dev/replica';
