// How the gateway names itself to both sides (RFC 4253, 4.2). OpenSSH speaks its extensions (eow@openssh.com,
// no-more-sessions@openssh.com) only to what begins with its own name: without them `ssh host yes | head -1` never ends.
export const SOFTWARE = 'OpenSSH_compatible_Sallyport';
