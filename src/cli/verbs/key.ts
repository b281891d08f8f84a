// key: for grants that are written as YAML. The private half stays here, `connect` finds it by the public one.
import { API_GROUP_VERSION } from '../../api/group.ts';
import { type Context, findConnection, nextCommand } from '../context.ts';
import { EXIT, type ExitCode } from '../io.ts';
import { jsonText, yamlText } from '../render.ts';
import { makeKey } from './request.ts';

export async function key(context: Context, connectionName: string): Promise<ExitCode> {
  const { metadata } = await findConnection(context, connectionName);
  const clientKey = makeKey(context);
  const grant = {
    apiVersion: API_GROUP_VERSION,
    kind: 'AccessGrant',
    metadata: { generateName: `${metadata.name}-`, namespace: metadata.namespace },
    spec: { connectionRef: { name: metadata.name }, duration: '1h', reason: 'say why', clientKey },
  };
  const { io, output } = context;
  io.out(output === 'name' ? `${clientKey}\n` : output === 'json' ? `${jsonText(grant, 2)}\n` : yamlText(grant));
  io.err(
    `The private half is in ${context.home}. Create the grant with kubectl create -f, then: ${nextCommand(context, `connect ${metadata.name} --wait`, { namespace: metadata.namespace })}\n`,
  );
  return EXIT.ok;
}
