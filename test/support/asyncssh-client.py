"""asyncssh as a client: exec, a shell on a terminal, sftp and scp both ways. Arguments: port, user, key, known_hosts, folder."""
import asyncio
import os
import sys

import asyncssh


async def main() -> None:
    port, user, key, known, folder = sys.argv[1:]
    at = os.path.join
    async with asyncssh.connect(
        "127.0.0.1", int(port), username=user, client_keys=[key], known_hosts=known, config=None
    ) as connection:
        ran = await connection.run("cat; echo err >&2; exit 3", input="in")
        assert (ran.stdout, ran.stderr, ran.exit_status) == ("in", "err\n", 3), ran
        shell = await connection.create_process(term_type="xterm", term_size=(80, 24))
        shell.change_terminal_size(101, 33)
        shell.stdin.write("echo size: $(stty size); exit\n")
        assert "size: 33 101" in await shell.stdout.read()
        data = os.urandom(5_000_001)
        async with connection.start_sftp_client() as sftp:
            async with sftp.open(at(folder, "there"), "wb") as file:
                await file.write(data)
            async with sftp.open(at(folder, "there"), "rb") as file:
                assert await file.read() == data
            await sftp.remove(at(folder, "there"))
        with open(at(folder, "asyncssh-source"), "wb") as file:
            file.write(data)
        await asyncssh.scp(at(folder, "asyncssh-source"), (connection, at(folder, "there")))
        await asyncssh.scp((connection, at(folder, "there")), at(folder, "back"))
        with open(at(folder, "back"), "rb") as file:
            assert file.read() == data
        for name in ("asyncssh-source", "there", "back"):
            os.remove(at(folder, name))


asyncio.run(main())
