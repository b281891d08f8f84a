"""asyncssh as a target: runs commands by a shell, serves sftp and scp. Arguments: port, host key, authorized_keys."""
import asyncio
import sys

import asyncssh


async def handle(process: asyncssh.SSHServerProcess) -> None:
    if process.command is None:
        process.exit(1)
        return
    child = await asyncio.create_subprocess_shell(
        process.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await child.communicate(await process.stdin.read())
    process.stdout.write(out)
    process.stderr.write(errors)
    process.exit(child.returncode)


async def main() -> None:
    port, host_key, authorized_keys = sys.argv[1:]
    await asyncssh.listen(
        "127.0.0.1",
        int(port),
        server_host_keys=[host_key],
        authorized_client_keys=authorized_keys,
        process_factory=handle,
        encoding=None,
        sftp_factory=True,
        allow_scp=True,
    )
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
