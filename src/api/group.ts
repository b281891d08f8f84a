// The API group. Apart from the schemas, so that whoever only names it loads no schema.
export const API_GROUP = 'sallyport.dev';
export const API_VERSION = 'v1alpha1';
export const API_GROUP_VERSION = `${API_GROUP}/${API_VERSION}` as const;
