// The words in which two texts differ.

const MOST_WORDS = 1500; // of either text: the table of a longer one takes too long

function words(text) {
  return text.match(/\s*\S+|\s+$/g) ?? [];
}

// For each word of `a` and of `b` whether the longest common subsequence holds it.
function common(a, b) {
  const [n, m] = [a.length, b.length], kept = [new Uint8Array(n), new Uint8Array(m)];
  if (n > MOST_WORDS || m > MOST_WORDS) return null;
  const length = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
  const same = (i, j) => a[i].trim() === b[j].trim();
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) length[i][j] = same(i, j) ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
  }
  for (let i = 0, j = 0; i < n && j < m; ) {
    if (same(i, j)) kept[0][i++] = kept[1][j++] = 1;
    else if (length[i + 1][j] >= length[i][j + 1]) i++;
    else j++;
  }
  return kept;
}

// `text` as nodes, what `other` lacks inside elements of the given tag.
function marked(text, other, tag) {
  const [mine, theirs] = [words(text), words(other)], kept = common(mine, theirs);
  if (!kept) return [text];
  const nodes = [];
  let run = "", differs = false;
  const flush = () => {
    const start = run.length - run.trimStart().length; // spaces before a marked run stay outside of it
    if (run) nodes.push(...(differs ? [run.slice(0, start), make(tag, {}, run.slice(start))] : [run]));
  };
  mine.forEach((word, i) => {
    if (!kept[0][i] !== differs) {
      flush();
      [run, differs] = ["", !differs];
    }
    run += word;
  });
  flush();
  return nodes;
}
