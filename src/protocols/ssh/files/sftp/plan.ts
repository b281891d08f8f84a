// What a request does to which paths: pure, so that it can be read and tested without a target.
import type { FileAccess } from '../../facts.ts';
import type { Field } from '../../wire/data.ts';
import { absolute, lexicalForm, splitName } from '../paths.ts';
import { type Attributes, bytesOf, OPEN_FLAG, onlyPermissions, path, TYPE } from './packets.ts';
import type { SftpRequest } from './requests.ts';

/** Requests that name paths and are answered by the target once they are permitted. */
export type PathRequest = Extract<
  SftpRequest,
  {
    kind:
      | 'Open'
      | 'OpenDirectory'
      | 'Look'
      | 'RealPath'
      | 'SetStat'
      | 'Remove'
      | 'MakeDirectory'
      | 'RemoveDirectory'
      | 'Rename'
      | 'HardLink'
      | 'SymbolicLink';
  }
>;

type Action = FileAccess['action'];

/** One path of a request. */
export interface Place {
  /** As the client spelled it, made absolute. */
  spelled: string;
  lexical: string;
  /** Whether the operation goes where the last link leads. */
  follow: boolean;
  actions: readonly Action[];
  subtree: boolean;
  /** It need not exist, and nothing is done there now: what can not be resolved is judged as spelled. */
  mayDangle: boolean;
}

export interface Plan {
  operation: string;
  places: readonly Place[];
  /** Whether names may mean something else afterwards. */
  changesNames: boolean;
  /** The request for the target, `places` resolved in their order. Absent: the resolution is the answer. */
  build?(resolved: readonly string[]): { type: number; fields: readonly Field[] };
}

export type Planned = Plan | { problem: string; unsupported: boolean };

export interface PlanContext {
  /** REALPATH of `.` */
  directory: string;
  /**
   * The target is known to take SYMLINK's arguments in OpenSSH's order. Where it is not, a relative target would be taken
   * for the link's own path by a server that follows the draft: such a request is refused.
   */
  symlinkOrderKnown: boolean;
}

const KNOWN_FLAGS = 0x3f;
const SPECIAL_BITS = 0o7000;

export function planOf(request: PathRequest, context: PlanContext): Planned {
  const place = (spelled: string, follow: boolean, actions: readonly Action[], subtree = false): Place => ({
    spelled: absolute(context.directory, spelled),
    lexical: lexicalForm(context.directory, spelled),
    // Without a name to act on (`.`, `..`, `/`) there is only what it leads to.
    follow: follow || splitName(spelled) === undefined,
    actions,
    subtree,
    mayDangle: false,
  });
  switch (request.kind) {
    case 'Open': {
      const { flags, attributes } = request;
      if ((flags & ~KNOWN_FLAGS) !== 0) return unsupported('OPEN has flags that version 3 does not know');
      // An exclusive open never follows the last link; any other does, even to create what a dangling link names.
      const exclusive = (flags & OPEN_FLAG.CREAT) !== 0 && (flags & OPEN_FLAG.EXCL) !== 0;
      return {
        operation: 'OPEN',
        places: [place(request.path, !exclusive, openActions(flags, attributes))],
        changesNames: false,
        build: ([at]) => ({
          type: TYPE.OPEN,
          fields: [path(at!), { uint32: flags }, { raw: onlyPermissions(attributes) }],
        }),
      };
    }
    case 'OpenDirectory':
      return {
        operation: 'OPENDIR',
        places: [place(request.path, true, ['Read'])],
        changesNames: false,
        build: ([at]) => ({ type: TYPE.OPENDIR, fields: [path(at!)] }),
      };
    case 'Look': {
      const { operation } = request;
      // `link/` is what the link leads to, for LSTAT as well.
      const follow = operation === 'STAT' || operation === 'statvfs' || request.path.endsWith('/');
      return {
        operation,
        places: [place(request.path, follow, ['Read'])],
        changesNames: false,
        build: ([at]) =>
          operation === 'statvfs'
            ? extended('statvfs@openssh.com', path(at!))
            : { type: TYPE[operation], fields: [path(at!)] },
      };
    }
    case 'RealPath':
      return { operation: 'REALPATH', places: [place(request.path, true, ['Read'])], changesNames: false };
    case 'SetStat': {
      const { attributes, follow } = request;
      return {
        operation: follow ? 'SETSTAT' : 'lsetstat',
        places: [place(request.path, follow, attributeActions(attributes))],
        changesNames: false,
        build: ([at]) =>
          follow
            ? { type: TYPE.SETSTAT, fields: [path(at!), { raw: attributes.bytes }] }
            : extended('lsetstat@openssh.com', path(at!), { raw: attributes.bytes }),
      };
    }
    case 'Remove':
    case 'RemoveDirectory': {
      const type = request.kind === 'Remove' ? TYPE.REMOVE : TYPE.RMDIR;
      return {
        operation: request.kind === 'Remove' ? 'REMOVE' : 'RMDIR',
        places: [place(request.path, false, ['Write'])],
        changesNames: true,
        build: ([at]) => ({ type, fields: [path(at!)] }),
      };
    }
    case 'MakeDirectory': {
      const { attributes } = request;
      return {
        operation: 'MKDIR',
        places: [place(request.path, false, createActions(attributes))],
        changesNames: true,
        build: ([at]) => ({ type: TYPE.MKDIR, fields: [path(at!), { raw: onlyPermissions(attributes) }] }),
      };
    }
    case 'Rename':
      return {
        operation: request.operation,
        // Under its new name it can be read by whoever may read there, so it must be readable where it was.
        places: [place(request.from, false, ['Read', 'Write'], true), place(request.to, false, ['Write'], true)],
        changesNames: true,
        build: ([from, to]) =>
          request.operation === 'RENAME'
            ? { type: TYPE.RENAME, fields: [path(from!), path(to!)] }
            : extended('posix-rename@openssh.com', path(from!), path(to!)),
      };
    case 'HardLink':
      return {
        operation: 'hardlink',
        places: [
          place(request.from, false, ['Read', 'Write'], true),
          place(request.to, false, ['Write'], true),
          // Linux links the name, BSD and macOS what it leads to.
          { ...place(request.from, true, ['Read', 'Write'], true), mayDangle: true },
        ],
        changesNames: true,
        build: ([from, to]) => extended('hardlink@openssh.com', path(from!), path(to!)),
      };
    case 'SymbolicLink': {
      const { target, link } = request;
      if (target === '') return { problem: 'a link to nothing', unsupported: false };
      if (!target.startsWith('/') && !context.symlinkOrderKnown)
        return unsupported('relative links, where the target does not say that it is OpenSSH');
      const directory = splitName(link)?.directory ?? link;
      return {
        operation: 'SYMLINK',
        places: [
          place(link, false, ['Write']),
          // Whatever follows the link at the target may read or write there under the link's path.
          {
            ...place(absolute(absolute(context.directory, directory), target), true, ['Read', 'Write'], true),
            mayDangle: true,
          },
        ],
        changesNames: true,
        build: ([at]) => ({ type: TYPE.SYMLINK, fields: [{ string: bytesOf(target) }, path(at!)] }),
      };
    }
  }
}

const unsupported = (problem: string): Planned => ({ problem, unsupported: true });

function extended(name: string, ...fields: readonly Field[]): { type: number; fields: readonly Field[] } {
  return { type: TYPE.EXTENDED, fields: [{ string: name }, ...fields] };
}

/** Servers open for reading where no flag says otherwise, and create or truncate whatever the access. */
export function openActions(flags: number, attributes: Attributes): readonly Action[] {
  const actions: Action[] = [];
  const writes = (flags & (OPEN_FLAG.WRITE | OPEN_FLAG.APPEND | OPEN_FLAG.CREAT | OPEN_FLAG.TRUNC)) !== 0;
  if ((flags & OPEN_FLAG.READ) !== 0 || (flags & OPEN_FLAG.WRITE) === 0) actions.push('Read');
  if (writes) actions.push('Write');
  if ((flags & OPEN_FLAG.CREAT) !== 0 && special(attributes)) actions.push('Grant');
  return actions;
}

/** Of SETSTAT and its kin. With no attribute at all it still tells whether the path is there: that counts as Write too. */
export function attributeActions(attributes: Attributes): readonly Action[] {
  const grants = attributes.owner || special(attributes);
  const writes = !grants || attributes.size || attributes.times;
  return [...(writes ? (['Write'] as const) : []), ...(grants ? (['Grant'] as const) : [])];
}

function createActions(attributes: Attributes): readonly Action[] {
  return special(attributes) ? ['Write', 'Grant'] : ['Write'];
}

/** setuid, setgid, sticky: who a program runs as, who may remove what. */
function special({ permissions }: Attributes): boolean {
  return permissions !== undefined && (permissions & SPECIAL_BITS) !== 0;
}

/** What policy is asked. `resolved[i]` undefined: the target could not say. */
export function accessOf(places: readonly Place[], resolved: readonly (string | undefined)[]): FileAccess[] {
  return places.flatMap(({ lexical, actions, subtree }, index) =>
    actions.map((action) => {
      const at = resolved[index];
      return { action, path: lexical, subtree, ...(at === undefined ? {} : { resolved: at }) };
    }),
  );
}
