// The files of a ZIP archive, as {path, size, blob()}: read from the list at its end, unpacked one at a time when asked.
// What the hub refuses it refuses after this, too; the limits here spare a person's own browser.
"use strict";
const unzip = (() => {
  const MAX_FILES = 65534, MAX_BYTES = 2 ** 32 - 2, MAX_GROWTH = 200;
  const text = new TextDecoder();
  const entries = async (archive) => {
    const tail = await archive.slice(Math.max(0, archive.size - 65557)).arrayBuffer();
    const view = new DataView(tail);
    let at = tail.byteLength - 22;
    while (at >= 0 && view.getUint32(at, true) !== 0x06054b50) at -= 1;
    if (at < 0) throw new Error("This is not a ZIP archive, or it is cut short.");
    const count = view.getUint16(at + 10, true), size = view.getUint32(at + 12, true), start = view.getUint32(at + 16, true);
    if (count > MAX_FILES || start > MAX_BYTES) throw new Error("The archive has more than 65,534 files or 4 GB: choose the folder instead.");
    return { list: new DataView(await archive.slice(start, start + size).arrayBuffer()), count };
  };
  return async (archive) => {
    const { list, count } = await entries(archive);
    const files = [];
    let at = 0, unpacked = 0;
    for (let k = 0; k < count; k += 1) {
      if (at + 46 > list.byteLength || list.getUint32(at, true) !== 0x02014b50) throw new Error("The archive's list of files is damaged.");
      const flags = list.getUint16(at + 8, true), method = list.getUint16(at + 10, true);
      const packed = list.getUint32(at + 20, true), size = list.getUint32(at + 24, true);
      const name = list.getUint16(at + 28, true), extra = list.getUint16(at + 30, true), note = list.getUint16(at + 32, true);
      const path = text.decode(new Uint8Array(list.buffer, at + 46, name)).replaceAll("\\", "/");
      const mode = list.getUint32(at + 38, true) >>> 16, start = list.getUint32(at + 42, true);
      at += 46 + name + extra + note;
      if (path.endsWith("/")) continue;
      if ((mode & 0xf000) === 0xa000) throw new Error(`“${path}” is a link; put the file itself into the archive.`);
      if (flags & 1) throw new Error("The archive is encrypted; make one without a password.");
      if (method !== 0 && method !== 8) throw new Error(`“${path}” is packed in a way that browsers cannot unpack; choose the folder instead.`);
      unpacked += size;
      if (unpacked > MAX_BYTES || size > Math.max(2 ** 20, packed * MAX_GROWTH)) throw new Error("The archive claims to grow absurdly when it is unpacked.");
      const blob = async () => {
        const head = new DataView(await archive.slice(start, start + 30).arrayBuffer());
        if (head.byteLength < 30 || head.getUint32(0, true) !== 0x04034b50) throw new Error(`“${path}” is not where the archive's list says.`);
        const from = start + 30 + head.getUint16(26, true) + head.getUint16(28, true);
        const data = archive.slice(from, from + packed);
        if (method === 0) return data;
        const reader = data.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
        const parts = [];
        for (let got = 0; ;) {
          const { done, value } = await reader.read();
          if (done) break;
          got += value.byteLength;
          if (got > size) { await reader.cancel(); throw new Error(`“${path}” is larger than the archive says.`); }
          parts.push(value);
        }
        return new Blob(parts);
      };
      files.push({ path, size, blob });
    }
    return files;
  };
})();
