// The index has tables alone.

for (const box of document.querySelectorAll(".table")) startTable(box);
